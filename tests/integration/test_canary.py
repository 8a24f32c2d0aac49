"""Secrets planted wherever a request, a model, a tool, a database and an environment have a place:
none of them is in anything that leaves the process, unless it was asked for.
"""

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import quote

import grpc
import httpx
import pytest

from otel_coach.metrics.labels import ALLOWED_LABELS
from otel_coach.testing import Page
from tests.support.otlp import Receiver
from tests.support.paths import APPS
from tests.support.programs import Program, free_port
from tests.support.stack import bin_path
from tests.support.waiting import eventually

PROMPT, ANSWER, ARGUMENT, RESULT, SYSTEM = "prompt", "answer", "argument", "result", "system"
PLANTED = (
    *(PROMPT, ANSWER, ARGUMENT, RESULT, SYSTEM, "user_id", "thread_id", "session", "mail"),
    *("literal", "bearer", "cookie", "api_key", "query", "raw_path", "host", "forwarded", "agent"),
    *("referer", "tracestate", "baggage", "environment_key", "database_password", "argv"),
    *("metrics_token", "tool_error", "raised"),
)
CANARY = {name: f"c4nary{place:02}x{name.replace('_', '')}" for place, name in enumerate(PLANTED)}
SAID = {name: CANARY[name] for name in (PROMPT, ANSWER, ARGUMENT, RESULT, SYSTEM)}


def disguises(secret):
    """How a secret may look: plain, in base64 at any place, as a URL or JSON spells it."""
    plain = secret.encode()
    yield plain
    yield plain.hex().encode()
    yield quote(secret, safe="").encode()
    yield json.dumps(secret).encode()[1:-1]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + plain + b"\0" * 3)
        yield encoded[4 * (before > 0) : 4 * ((before + len(plain)) // 3)].strip(b"=")


def found_in(content, secrets):
    return {
        name
        for name, secret in secrets.items()
        if any(look in content for look in disguises(secret))
    }


class GrpcReceiver:
    """A real OTLP/gRPC server that keeps the bytes of what it is sent."""

    def __init__(self):
        self.requests = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers([self])
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details):
        def keep(body, _context):
            self.requests.append((details.method, body))
            return b""

        return grpc.unary_unary_rpc_method_handler(keep)

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None)


RECEIVERS = {"http/protobuf": Receiver, "grpc": GrpcReceiver}


@contextmanager
def service(provider, database_url, folder, protocol, **more):
    with RECEIVERS[protocol]() as receiver:
        port = free_port()
        log, telemetry = folder / "service.log", folder / "telemetry.log"
        url = f"http://127.0.0.1:{port}"
        command = ["uvicorn", "canary_app:app", "--port", str(port), "--no-access-log"]
        program = Program(
            [
                bin_path("opentelemetry-instrument"),
                *command,
                *("--header", f"x-from-the-command-line:{CANARY['argv']}"),
            ],
            cwd=APPS,
            ready=f"{url}/openapi.json",
            environment={
                "PATH": f"{bin_path('')}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(folder),
                "DATABASE_URL": database_url.replace(
                    "postgres:@", f"postgres:{CANARY['database_password']}@"
                ),
                "OPENAI_BASE_URL": provider.base_url,
                "OPENAI_API_KEY": CANARY["environment_key"],
                "CANARY_RESULT": CANARY[RESULT],
                "CANARY_SYSTEM": CANARY[SYSTEM],
                "CANARY_LOG": str(telemetry),
                "CLOSED_PORT": str(free_port()),
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_TRACES_EXPORTER": "otlp,console",
                "OTEL_METRICS_EXPORTER": "prometheus,otlp",
                "OTEL_METRIC_EXPORT_INTERVAL": "300",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "OTEL_BLRP_SCHEDULE_DELAY": "100",
                "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,process,host",
                "OTEL_COACH_DEPENDENCIES": "database=env:DATABASE_URL",
                "OTEL_COACH_DEPENDENCY_INTERVAL": "1",
                "OTEL_COACH_METRICS_TOKEN": CANARY["metrics_token"],
                **more,
            },
            log=log,
        )
        outflow = {}
        try:
            yield url, receiver, outflow
            headers = {"authorization": f"Bearer {CANARY['metrics_token']}"}
            openmetrics = {"accept": "application/openmetrics-text"}
            outflow["page"] = httpx.get(f"{url}/metrics", headers=headers).content
            outflow["page with exemplars"] = httpx.get(
                f"{url}/metrics", headers=headers | openmetrics
            ).content
        finally:
            program.stop()
        outflow["console and log of the server"] = log.read_bytes()
        outflow["telemetry's own log"] = telemetry.read_bytes()
        for path, body in receiver.requests:
            outflow[path] = outflow.get(path, b"") + body


def order(message, **more):
    fields = {"user_id": CANARY["user_id"], "thread_id": CANARY["thread_id"]}
    return {"message": f"{message} {CANARY[PROMPT]} {CANARY['mail']}@example.org"} | fields | more


def visit(url):
    """Do all that a service is used for, with a secret in each place."""
    headers = {
        "host": f"{CANARY['host']}.example",
        "authorization": f"Bearer {CANARY['bearer']}",
        "cookie": f"session={CANARY['cookie']}",
        "x-api-key": CANARY["api_key"],
        "x-forwarded-for": CANARY["forwarded"],
        "x-forwarded-proto": CANARY["forwarded"],
        "x-forwarded-host": CANARY["forwarded"],
        "user-agent": CANARY["agent"],
        "referer": CANARY["referer"],
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        "tracestate": f"vendor={CANARY['tracestate']}",
        "baggage": f"user={CANARY['baggage']}",
    }
    say, ask = f"[say:{CANARY[ANSWER]}]", f"[tool:remember] [ask:{CANARY[ARGUMENT]}]"
    query = {"token": CANARY["query"]}
    anew = httpx.Limits(max_keepalive_connections=0)  # uvicorn closes after an exception
    with httpx.Client(
        base_url=url, headers=headers, params=query, timeout=20, limits=anew
    ) as client:
        chat = f"/chat/{CANARY['session']}"
        assert CANARY[ANSWER] in client.post(chat, json=order(f"{say} {ask}")).text
        failing = f"[tool:remember] [ask:fail{CANARY['tool_error']}] {say}"
        client.post(chat, json=order(failing))
        client.post(chat, json=order(f"[fail:400] {say}"))
        assert client.post("/stream", json=order(say)).text == CANARY[ANSWER]
        with suppress(httpx.RemoteProtocolError):  # the service breaks the answer off
            client.post("/stream", json=order(f"[cut] {say}"))
        assert client.post("/raise", json=order(CANARY["raised"])).status_code == 500
        assert (
            client.post("/refuse", json=order("no", literal=CANARY["literal"])).status_code == 401
        )
        answered = client.post("/database", json=order("query", literal=CANARY["literal"]))
        assert answered.status_code == 200
        assert client.get(f"/nowhere/{CANARY['raw_path']}").status_code == 404
    leave(url, headers, order(f"[tokens:500] [pace:0.05] {say}"))


def leave(url, headers, sent):
    with (
        suppress(httpx.HTTPError),
        httpx.stream("POST", f"{url}/stream", headers=headers, json=sent, timeout=5) as answer,
    ):
        next(answer.iter_bytes(), None)


def flushed(receiver):
    return lambda: any(
        "trace" in path.lower() and b"of the application" in body
        for path, body in receiver.requests
    )


def spans_in(log):
    """What the console exporter wrote; the server writes tracebacks of its own between."""
    text, spans = log.decode(), []
    for begin in (place for place in range(len(text)) if text.startswith("{\n", place)):
        with suppress(ValueError):
            spans.append(json.JSONDecoder().raw_decode(text, begin)[0])
    return json.dumps([span for span in spans if "context" in span]).encode()


@pytest.fixture(params=list(RECEIVERS))
def protocol(request):
    return request.param


@pytest.mark.long
def test_no_secret_leaves_the_process(provider, database_url, tmp_path, protocol):
    with service(provider, database_url, tmp_path, protocol) as (url, receiver, outflow):
        visit(url)
        eventually(flushed(receiver))
    signals = {name for path in outflow for name in ("trace", "metrics") if name in path.lower()}
    assert signals == {"trace", "metrics"}
    console = outflow["console"] = spans_in(outflow.pop("console and log of the server"))
    for name in (b"invoke_agent", b"execute_tool remember", b"chat gpt-3.5-turbo", b"POST /chat"):
        assert name in console
    outflow["console"] = console
    assert {place: found_in(content, CANARY) for place, content in outflow.items()} == {
        place: set() for place in outflow
    }

    page = Page(outflow["page"].decode())
    # The stock instrumentations that are installed measure too, under our labels only.
    assert {"http_client_duration_milliseconds_count", "asked_total"} <= page.names
    assert [name for name in page.names if name.startswith("system_")]
    own_registry = ("python_", "process_")
    labels = {
        label
        for name in page.names
        if not name.startswith(own_registry)
        for found, _ in page.samples(name)
        for label in found
    }
    assert labels <= ALLOWED_LABELS | {"le"}


def test_the_search_finds_what_is_there():
    secret = CANARY["mail"]
    for look in (
        secret,
        secret.encode().hex(),
        base64.b64encode(f"a {secret} b".encode()).decode(),
    ):
        assert found_in(f"... {look} ...".encode(), CANARY) == {"mail"}


CAPTURED = {
    "SPAN_ONLY": ({"trace"}, set()),
    "EVENT_ONLY": (set(), {"logs"}),
    "SPAN_AND_EVENT": ({"trace"}, {"logs"}),
}
"""Where the content of chats is, by mode; that of tools is on spans only."""


@pytest.mark.long
@pytest.mark.parametrize("mode", CAPTURED)
def test_what_is_captured_on_purpose_is_there_and_nothing_else(
    provider, database_url, tmp_path, mode
):
    on_spans, on_events = CAPTURED[mode]
    variables = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": mode.lower()}
    running = service(provider, database_url, tmp_path, "http/protobuf", **variables)
    with running as (url, receiver, outflow):
        visit(url)
        eventually(flushed(receiver))
        if on_events:
            eventually(lambda: any("logs" in path for path, _ in receiver.requests))
    places = {"trace": "/v1/traces", "logs": "/v1/logs"}
    in_content = {PROMPT, "mail", ANSWER, ARGUMENT, RESULT, SYSTEM, "tool_error", "raised"}
    for signal, place in places.items():
        found = found_in(outflow.get(place, b""), CANARY)
        if signal in on_spans | on_events:
            assert set(SAID) <= found <= in_content
        else:
            assert found == set()
    for place in ("page", "page with exemplars", "/v1/metrics", "telemetry's own log"):
        assert found_in(outflow[place], CANARY) == set()


@pytest.mark.long
def test_a_redactor_and_a_limit_hold_for_all_that_is_captured(
    provider, database_url, tmp_path, monkeypatch
):
    (tmp_path / "redactor.py").write_text(
        "def redact(text):\n    return text.replace('c4nary', 'gone')\n"
    )
    variables = {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT",
        "OTEL_COACH_CONTENT_REDACTOR": "redactor:redact",
        "PYTHONPATH": str(tmp_path),
    }
    running = service(provider, database_url, tmp_path, "http/protobuf", **variables)
    with running as (url, receiver, outflow):
        visit(url)
        eventually(flushed(receiver))
        eventually(lambda: any("logs" in path for path, _ in receiver.requests))
    for place in ("/v1/traces", "/v1/logs"):
        assert found_in(outflow[place], CANARY) == set()
        for secret in SAID.values():
            assert secret.replace("c4nary", "gone").encode() in outflow[place]
