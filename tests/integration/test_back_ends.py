"""Back ends that are down, slow or wrong: the application does not feel them, nor does its log."""

import os
import re
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from otel_coach.sdk.providers import Providers
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.otlp import Receiver
from tests.support.paths import APPS
from tests.support.programs import ALONE, Program, free_port
from tests.support.serving import serving
from tests.support.stack import bin_path
from tests.support.waiting import eventually


@contextmanager
def answering(respond):
    """A server that takes connections and does with each what `respond` does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=respond, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def silent(connection):
    threading.Event().wait(60)
    connection.close()


def saying(answer):
    def say(connection):
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    return say


UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def answering_nobody(address=None):
    yield address or f"http://127.0.0.1:{free_port()}"


BACK_ENDS = {
    "refuses": answering_nobody,
    "is silent": lambda: answering(silent),
    "is unavailable": lambda: answering(saying(UNAVAILABLE)),
    "answers garbage": lambda: answering(saying(bytes(range(200)))),
    "has no address": lambda: answering_nobody("http://no-such-host.invalid:4318"),
}


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_a_dead_back_end_costs_no_answer_and_one_line_a_minute(back_end, monkeypatch, caplog):
    from tests.support.apps.small_app import app

    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    # What a service waits for when it stops; test_stopping.py looks at that.
    monkeypatch.setattr("otel_coach.instrumentors.asgi.middleware._MAX_FLUSH", 0.1)
    monkeypatch.setattr(Providers.shutdown, "__defaults__", (0.1,))
    everywhere = Settings(trace_exporters=("otlp",), metric_exporters=("prometheus", "otlp"))
    # An exporter of the test before may have said its last just now, or be about to.
    earlier = {thread.ident for thread in threading.enumerate()}
    caplog.clear()
    with BACK_ENDS[back_end]() as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        with measuring(everywhere) as measured, serving(app) as client:
            for number in range(100):
                assert client.get(f"/ask/{number}").text == '"one two three"'
            if back_end != "is silent":  # whose time is not over yet
                eventually(lambda: "xport" in caplog.text)  # a name takes its time
            time.sleep(1)  # a few attempts more
            page = measured.page()
            assert page.sum("agent_llm_requests_total", status="ok") == 100
            assert page.sum("otel_coach_errors_total") == 0
            # Before the exporters stop: one that is abandoned says so, on its restored logger.
            of_exporters = [
                record
                for record in caplog.records
                if record.name.startswith("opentelemetry") and record.thread not in earlier
            ]
        assert len(of_exporters) <= 1
        assert not any(record.exc_info for record in of_exporters)


@contextmanager
def service(folder, *options, **variables):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Program(
        [
            bin_path("opentelemetry-instrument"),
            *("uvicorn", "plain_app:app", "--port", str(port)),
            *options,
        ],
        cwd=APPS,
        ready=f"{url}/health",
        environment={
            "PATH": f"{bin_path('')}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            **ALONE,
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            **variables,
        },
        log=folder / "log",
    )
    try:
        yield url
    finally:
        program.stop()


def test_a_dead_back_end_for_traces_takes_no_figures_from_a_healthy_one(tmp_path):
    with Receiver() as receiver, answering(silent) as dead:
        variables = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{dead}/v1/traces",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{receiver.endpoint}/v1/metrics",
            "OTEL_METRIC_EXPORT_INTERVAL": "60000",
        }
        with service(tmp_path, **variables) as url:
            for number in range(5):
                httpx.get(f"{url}/hello/{number}")
        assert any(b"http.server.request.duration" in body for _, body in receiver.requests)


def test_a_process_that_serves_nobody_sends_nothing(tmp_path):
    with Receiver() as receiver:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with service(tmp_path, "--workers", "2", **endpoint) as url:
            for number in range(20):
                httpx.get(f"{url}/hello/{number}")
        senders = set()
        for path, body in receiver.requests:
            if path == "/v1/metrics":
                senders.add(
                    re.search(rb"service\.instance\.id.{4}([-0-9a-f]{36})", body, re.DOTALL)[1]
                )
    assert len(senders) <= 2  # the workers, not their supervisor nor a resource tracker
