"""The small application under `opentelemetry-instrument`, and what all of its tests look at."""

import os
import signal
from contextlib import contextmanager

import httpx

from otel_coach.testing import Page
from tests.support.environment import without_settings
from tests.support.otlp import Receiver
from tests.support.paths import APPS
from tests.support.programs import ALONE, Program, free_port
from tests.support.stack import INSTRUMENTED, bin_path
from tests.support.waiting import eventually

SERVER = 2
HTTP = "http_server_request_duration_seconds_count"


class Service:
    def __init__(self, url, program, receiver):
        # uvicorn hangs up after an exception: no connection is used twice.
        self.client = httpx.Client(base_url=url, limits=httpx.Limits(max_keepalive_connections=0))
        self.program = program
        self.receiver = receiver

    def page(self):
        return Page(self.client.get("/metrics").text)

    def stop(self, how=signal.SIGTERM):
        self.client.close()
        self.program.stop(how)

    @property
    def log(self):
        return self.program.log.read_text()


@contextmanager
def small_service(tmp_path, command=INSTRUMENTED, app="small_app:app", **environment):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Receiver() as receiver:
        variables = {
            **without_settings(),
            "PATH": f"{bin_path('')}{os.pathsep}{os.environ['PATH']}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            **environment,
        }
        program = Program(
            [bin_path(command[0]), *command[1:-1], app, *_at(port, command)],
            cwd=APPS,
            ready=f"{url}/health",
            environment={key: value for key, value in variables.items() if value},
            log=tmp_path / f"service-{port}.log",
        )
        service = Service(url, program, receiver)
        try:
            yield service
        finally:
            service.stop()


def _at(port, command):
    return ("-b", f"127.0.0.1:{port}") if "hypercorn" in command else ("--port", str(port))


def plain_service(tmp_path, command=INSTRUMENTED, **environment):
    """The same without a model, and measured by otel-coach alone: it starts in half the time."""
    return small_service(tmp_path, command, "plain_app:app", **{**ALONE, **environment})


def send_one_of_each(service):
    client = service.client
    client.get("/health")
    client.get("/ask/anna")
    client.get("/stream")
    client.get("/refuse")
    client.get("/broken")
    client.get("/no/such/page")
    with client.stream("GET", "/stream?pause=0.05") as response:
        next(response.iter_raw())
    eventually(lambda: service.page().sum("app_ai_stream_aborts_total") == 1)


EXPECTED_HTTP = {
    ("/ask/{name}", "200"): 1,
    ("/broken", "500"): 1,
    ("/refuse", "401"): 1,
    ("/stream", "200"): 2,
    ("unmatched", "404"): 1,
}


def check(service):
    """The same, whoever came first."""
    before = service.page().sum(HTTP, endpoint="/health")
    send_one_of_each(service)
    page = service.page()
    found = {
        (labels["endpoint"], labels["status"]): value
        for labels, value in page.samples(HTTP)
        if labels["endpoint"] != "/health"
    }
    assert found == EXPECTED_HTTP
    assert page.sum(HTTP, endpoint="/health") == before + 1
    assert page.sum("agent_llm_requests_total", status="ok") == 3
    assert page.sum("app_ai_request_duration_seconds_count", status="ok") == 2
    assert page.sum("auth_failures_total", error_type="missing_credentials") == 1
    assert page.sum("otel_coach_errors_total") == 0
    http_families = {name for name in page.types if name.startswith("http_server")}
    assert http_families == {"http_server_request_duration_seconds"}
    return page


def server_spans(service):
    return [span for span in service.receiver.spans if span.kind == SERVER]
