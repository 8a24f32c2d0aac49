"""A server that is stopped in the middle of its work: all that started ends once."""

import os
import socket
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.support.environment import without_settings
from tests.support.otlp import Receiver
from tests.support.paths import APPS, ROOT
from tests.support.programs import Program, free_port
from tests.support.stack import bin_path, coaching_stack
from tests.support.sums import sums
from tests.support.waiting import eventually
from verification.oracle.ways import STREAM, WAYS

STREAMS = [
    way.name
    for way in WAYS
    if way.route == STREAM and way.name not in {"graph_updates", "graph_values"}
    # A sync generator's thread would keep the process from stopping, also without us.
    if way.name not in {"stream", "graph_stream", "graph_stream_all"}
]
AWAITED = ("ainvoke", "graph_ainvoke", "abatch")


@pytest.fixture(
    params=[
        pytest.param((), id="one process"),
        pytest.param(("--workers", "3"), id="three workers", marks=pytest.mark.long),
    ]
)
def service(request):
    environment = {
        "ORACLE_CLOSED_URL": f"http://127.0.0.1:{free_port()}/v1",
        "OTEL_COACH_DEPENDENCIES": "",
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "PYTHONPATH": str(ROOT),
    }
    command = (
        "opentelemetry-instrument",
        "uvicorn",
        "--timeout-graceful-shutdown",
        "1",
        *request.param,
        "verification.oracle.app:app",
    )
    with coaching_stack(
        command=command, environment=environment, cwd=ROOT, database_url=""
    ) as stack:
        yield stack


def test_open_streams_and_calls_end_once_when_the_server_stops(service):
    def ask(path):
        order = {
            "text": "[pace:0.2] [tokens:200]",
            "number": 1,
            "ending": "ok",
            "parts": 3,
            "calls": 1,
        }
        if path.startswith("/await"):
            order["text"] = "[delay:20]"
        try:
            with httpx.stream("POST", service.url + path, json=order, timeout=30) as response:
                for _ in response.iter_lines():
                    pass
        except httpx.HTTPError:
            pass  # the server hung up

    paths = [f"/stream/{way}" for way in STREAMS] + [f"/await/{way}" for way in AWAITED]
    calls = len(paths) + 1  # abatch makes two
    with ThreadPoolExecutor(len(paths)) as users:
        asking = [users.submit(ask, path) for path in paths]
        eventually(lambda: len(service.provider.ledger) == calls)
        eventually(
            lambda: all(entry.chunks_sent > 3 for entry in service.provider.ledger if entry.stream)
        )
        service.program.stop()
        for one in asking:
            one.result()
    spans = service.receiver.spans
    assert max(Counter(span.span_id for span in spans).values()) == 1
    assert sum(span.name.startswith("chat ") for span in spans) == calls
    assert sum(span.name.startswith("POST /") for span in spans) == len(paths)
    ids = {span.span_id for span in spans}
    assert not [span.name for span in spans if span.parent_id and span.parent_id not in ids]
    chats = [span for span in spans if span.name.startswith("chat ")]
    assert {span.attributes["otel_coach.outcome"] for span in chats} == {"aborted"}
    last = sums(service.receiver)
    assert last["agent.llm.requests", "aborted"] == calls
    assert last["agent.llm.unmeasured", None] == calls  # no usage came
    # The users did not leave: the server broke its answers off.
    assert last["app.ai.request.duration", "error"] == len(paths)
    assert last["app.ai.stream.aborts", "aborted"] == 0
    assert {kind for kind in last if kind[0] == "agent.llm.requests"} == {
        ("agent.llm.requests", "aborted")
    }


def test_a_script_that_ends_with_a_stream_open_has_its_span(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from langchain_core.language_models import FakeListChatModel\n"
        "stream = FakeListChatModel(responses=['one two']).stream('hi')\n"
        "next(stream)\n"
    )
    with Receiver() as receiver:
        environment = {
            **without_settings(),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_METRICS_EXPORTER": "otlp",
        }
        command = [bin_path("opentelemetry-instrument"), bin_path("python"), script]
        subprocess.run(command, env=environment, check=True, timeout=60)
        (span,) = receiver.spans
        assert span.attributes["otel_coach.outcome"] == "aborted"
        assert sums(receiver)["agent.llm.requests", "aborted"] == 1


@pytest.mark.long
def test_a_server_that_hangs_up_on_many_streams_logs_no_line_for_each(tmp_path):
    """What it cancelled shall not unwind because of us, and is counted all the same."""
    streams, port = 1000, free_port()
    log = tmp_path / "server.log"
    with Receiver() as receiver:
        environment = {key: value for key, value in os.environ.items() if "OTEL_" not in key}
        server = Program(
            [
                *(bin_path("opentelemetry-instrument"), bin_path("uvicorn"), "small_app:app"),
                *("--port", str(port), "--timeout-graceful-shutdown", "1"),
                *("--log-level", "warning"),
            ],
            cwd=APPS,
            ready=f"http://127.0.0.1:{port}/health",
            environment={
                **environment,
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_METRICS_EXPORTER": "prometheus,otlp",
                # More than there are, so that none has to wait for the exporter.
                "OTEL_BSP_MAX_QUEUE_SIZE": "10000",
            },
            log=log,
        )
        with ExitStack() as clients:
            for _ in range(streams):
                client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(b"GET /stream?pause=60 HTTP/1.1\r\nhost: h\r\n\r\n")
                assert client.recv(1 << 16)
            server.stop()
        errors = [line for line in log.read_text().splitlines() if line.startswith("ERROR")]
        found = Counter(span.name for span in receiver.spans)
        counted = sums(receiver)
    assert [line for line in errors if "timeout graceful shutdown exceeded" not in line] == []
    assert "Traceback" not in log.read_text()
    assert (found["GET /stream"], found["chat none"]) == (streams, streams)
    assert counted["app.ai.request.duration", "error"] == streams
    assert counted["app.ai.stream.chunks", "error"] == streams
