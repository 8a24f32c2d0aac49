"""`opentelemetry-instrument uvicorn small_app:app`, whoever else is installed and comes first."""

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import eventually, serving
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from demo.otlp import Receiver
from demo.programs import Program, free_port
from demo.stack import BARE, INSTRUMENTED, bin_path
from otel_coach.testing import Page

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
            **{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
            "PATH": f"{bin_path('')}{os.pathsep}{os.environ['PATH']}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            **environment,
        }
        program = Program(
            [bin_path(command[0]), *command[1:-1], app, "--port", str(port)],
            cwd=Path(__file__).parent,
            ready=f"{url}/health",
            environment={key: value for key, value in variables.items() if value},
            log=tmp_path / f"service-{port}.log",
        )
        service = Service(url, program, receiver)
        try:
            yield service
        finally:
            service.stop()


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


def counts(page):
    """{(sample, labels): value} of all that counts, but for the aborted stream's chunks."""
    return {
        (name, tuple(sorted(labels.items()))): value
        for name in page.names
        if name.endswith(("_total", "_count"))
        if not name.startswith(("python_", "process_"))
        for labels, value in page.samples(name)
        if not (name == "app_ai_stream_chunks_total" and labels["status"] == "aborted")
    }


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


def check_spans(service, *, health):
    """One server span for each request; none of it leaks. Called after the service stopped."""
    service.stop()
    names = [span.name for span in server_spans(service)]
    assert names.count("GET /health") == health
    assert sorted(name for name in names if name != "GET /health") == [
        "GET",
        "GET /ask/{name}",
        "GET /broken",
        "GET /refuse",
        "GET /stream",
        "GET /stream",
    ]
    outcomes = [span.attributes.get("otel_coach.outcome") for span in server_spans(service)]
    assert outcomes.count("aborted") == 1
    errors = [span.name for span in server_spans(service) if span.is_error]
    assert errors == ["GET /broken"]
    everything = b"".join(body for _, body in service.receiver.requests)
    for secret in (
        b"a secret in a message",
        b"127.0.0.1",
        b"/ask/anna",
        b"pause=",
        b"python-httpx",
    ):
        assert secret not in everything
    chats = [span for span in service.receiver.spans if span.name.startswith("chat")]
    servers = {span.span_id for span in server_spans(service)}
    assert len(chats) == 3
    assert all(span.parent_id in servers for span in chats)


@pytest.mark.parametrize("distro", ["otel_coach", "distro"])
@pytest.mark.parametrize("configurator", ["otel_coach", "configurator"])
def test_whoever_comes_first_the_series_and_spans_are_the_same(tmp_path, distro, configurator):
    order = {"OTEL_PYTHON_DISTRO": distro, "OTEL_PYTHON_CONFIGURATOR": configurator}
    with small_service(tmp_path, **order) as service:
        page = check(service)
        check_spans(service, health=page.sum(HTTP, endpoint="/health"))


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi"},
        {"SMALL_APP": "instruments itself", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi"},
        {"SMALL_APP": "instruments itself"},
        {"OTEL_COACH_SERVER_SPANS": "fastapi"},
        {"SMALL_APP": "calls instrument"},
    ],
    ids=["stock disabled", "stock by the app", "both", "stock by choice", "instrument called too"],
)
def test_there_is_one_server_span_and_one_http_family_always(tmp_path, environment):
    with small_service(tmp_path, **environment) as service:
        page = check(service)
        service.stop()
        names = [span.name for span in server_spans(service) if span.name != "GET /health"]
        assert len(names) == 6
        assert len(server_spans(service)) == 6 + page.sum(HTTP, endpoint="/health")
        everything = b"".join(body for _, body in service.receiver.requests)
        for secret in (b"a secret in a message", b"127.0.0.1", b"/ask/anna", b"pause="):
            assert secret not in everything


def test_the_applications_own_instrumentation_is_given_way_to_in_one_line(tmp_path):
    environment = {
        "SMALL_APP": "instruments itself",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi",
    }
    with small_service(tmp_path, **environment) as service:
        service.client.get("/ask/x")
        service.stop()
        assert service.log.count("gives way") == 1
        assert {span.scope for span in server_spans(service)} == {
            "opentelemetry.instrumentation.fastapi"
        }


def test_the_stock_instrumentation_by_choice_knows_the_outcome(tmp_path):
    with small_service(tmp_path, OTEL_COACH_SERVER_SPANS="fastapi") as service:
        check(service)
        service.stop()
        spans = server_spans(service)
        assert {span.scope for span in spans} == {"opentelemetry.instrumentation.fastapi"}
        outcomes = [span.attributes.get("otel_coach.outcome") for span in spans]
        assert outcomes.count("aborted") == 1
        assert not any(span.name.endswith((" send", " receive")) for span in service.receiver.spans)


def test_instrument_called_by_the_application_alone_does_the_same(tmp_path):
    with small_service(tmp_path, command=BARE, SMALL_APP="calls instrument") as service:
        page = check(service)
        check_spans(service, health=page.sum(HTTP, endpoint="/health"))


@pytest.mark.parametrize("variable", ["OTEL_COACH_DISABLED", "OTEL_SDK_DISABLED"])
def test_disabled_nothing_of_ours_is_on_the_path(tmp_path, variable):
    with small_service(tmp_path, command=BARE) as service:
        bare = service.client.get("/what-is-on-the-path").json()
        plain = service.client.get("/ask/x").content
    disabled = {variable: "true", "OTEL_PYTHON_DISTRO": "otel_coach"}
    disabled["OTEL_PYTHON_CONFIGURATOR"] = "otel_coach"
    with small_service(tmp_path, **disabled) as service:
        found = service.client.get("/what-is-on-the-path").json()
        assert service.client.get("/metrics").status_code == 404
        assert service.client.get("/ask/x").content == plain
        assert service.receiver.requests == []
    # What costs nothing, and no more; what the command itself imports is none of these.
    assert set(found.pop("modules")) - set(bare.pop("modules")) == {
        "otel_coach.distro",
        "otel_coach.environment_variables",
        "otel_coach.instrumentors",
    }
    assert found == bare


def test_without_an_endpoint_traces_go_nowhere_and_the_log_is_silent(tmp_path):
    for distro in ("otel_coach", "distro"):
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "",
            "OTEL_PYTHON_DISTRO": distro,
            "OTEL_PYTHON_CONFIGURATOR": "otel_coach",
        }
        with small_service(tmp_path, **environment) as service:
            service.client.get("/ask/x")
            service.stop()
            assert "rror" not in service.log
            assert "onnection" not in service.log
            assert "Traceback" not in service.log


def test_a_collector_that_is_not_there_costs_the_service_nothing(tmp_path):
    dead = f"http://127.0.0.1:{free_port()}"
    with small_service(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=dead) as service:
        assert service.client.get("/ask/x").status_code == 200
        started = time.monotonic()
        service.stop()
        assert time.monotonic() - started < 12
        assert service.program.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_no_span_is_lost_when_the_server_is_stopped(tmp_path, how):
    with small_service(tmp_path, OTEL_BSP_SCHEDULE_DELAY="60000") as service:
        for _ in range(5):
            service.client.get("/ask/x")
        assert service.receiver.spans == []
        service.stop(how)
        assert sum(span.name == "GET /ask/{name}" for span in service.receiver.spans) == 5


def test_the_standard_variables_keep_their_meaning(tmp_path):
    environment = {
        "OTEL_SERVICE_NAME": "a-coach",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_TRACES_EXPORTER": "console,otlp",
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "health,refuse$",
    }
    with small_service(tmp_path, **environment) as service:
        check(service)

        def metrics():
            return [
                ExportMetricsServiceRequest.FromString(body)
                for path, body in service.receiver.requests
                if path == "/v1/metrics"
            ]

        eventually(lambda: len(metrics()) > 2)
        service.stop()
        last = metrics()[-1].resource_metrics[0]
        resource = {pair.key: pair.value.string_value for pair in last.resource.attributes}
        assert resource["service.name"] == "a-coach"
        assert resource["deployment.environment.name"] == "test"
        names = {metric.name for scope in last.scope_metrics for metric in scope.metrics}
        assert {"app.ai.request.duration", "agent.llm.requests"} <= names
        assert '"name": "GET /ask/{name}"' in service.log
        traced = {span.name for span in server_spans(service)}
        assert traced == {"GET", "GET /ask/{name}", "GET /broken", "GET /stream"}


def test_the_commands_own_options_set_our_variables(tmp_path):
    options = ("--coach_metrics_path", "/internal/metrics")
    command = (INSTRUMENTED[0], *options, *INSTRUMENTED[1:])
    with small_service(tmp_path, command=command) as service:
        assert service.client.get("/metrics").status_code == 404
        Page(service.client.get("/internal/metrics").text)


def test_what_is_not_sampled_is_not_exported_but_measured(tmp_path):
    with small_service(tmp_path, OTEL_TRACES_SAMPLER="always_off") as service:
        check(service)
        service.stop()
        assert service.receiver.spans == []


def test_a_trace_goes_on_where_the_caller_began_it(tmp_path):
    with small_service(tmp_path) as service:
        trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        headers = {"traceparent": f"00-{trace_id}-{span_id}-01"}
        service.client.get("/ask/x", headers=headers)
        service.stop()
        (span,) = (s for s in server_spans(service) if s.name == "GET /ask/{name}")
        assert (span.trace_id, span.parent_id) == (trace_id, span_id)


def test_a_missing_exporter_is_one_line_with_its_cure(tmp_path):
    with small_service(tmp_path, OTEL_TRACES_EXPORTER="zipkin") as service:
        assert service.client.get("/ask/x").status_code == 200
        lines = [line for line in service.log.splitlines() if "zipkin" in line]
        assert len(lines) == 1
        assert "OTEL_TRACES_EXPORTER" in lines[0]
        assert "Cure" in lines[0]


def test_wrong_settings_are_one_line_each_and_the_service_answers(tmp_path):
    wrong = {
        "OTEL_COACH_DEPENDENCIES": "db=mysql://u:hunter2@h/x",
        "OTEL_COACH_DEPENDENCY_TIMEOUT": "soon",
        "OTEL_COACH_PRICES": "/no/such/prices.json",
        "OTEL_COACH_BUDGET_MODEL": "many",
    }
    with small_service(tmp_path, **wrong) as service:
        check(service)
        for name in wrong:
            lines = [line for line in service.log.splitlines() if name in line]
            assert len(lines) == 1, lines
        assert "hunter2" not in service.log


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "["}, "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS='['"),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5000"}, "OTEL_BSP_*"),
        (
            {"OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_METRIC_EXPORT_INTERVAL": "-1"},
            "OTEL_METRIC_EXPORT_*",
        ),
        ({"OTEL_EXPORTER_PROMETHEUS_HOST": "a..b"}, "OTEL_EXPORTER_PROMETHEUS_HOST=a..b"),
    ],
)
def test_a_wrong_setting_of_the_sdk_takes_at_most_its_own_part_away(tmp_path, wrong, named):
    with small_service(tmp_path, **wrong) as service:
        assert service.client.get("/ask/x").status_code == 200
        if "OTEL_EXPORTER_PROMETHEUS_HOST" not in wrong:
            assert service.page().sum("agent_llm_requests_total") == 1
        assert "Traceback" not in service.log
        assert sum(named in line for line in service.log.splitlines()) == 1


def test_a_back_end_that_hangs_does_not_keep_the_service_from_stopping(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as hanging:
        endpoint = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        }
        for how in (signal.SIGTERM, signal.SIGINT):
            with small_service(tmp_path, **environment) as service:
                service.client.get("/ask/x")
                started = time.monotonic()
                service.stop(how)
                assert time.monotonic() - started < 7


def test_a_stream_that_a_stopping_server_cuts_off_still_has_its_span(tmp_path):
    command = (*INSTRUMENTED[:2], "--timeout-graceful-shutdown", "1", INSTRUMENTED[2])
    with small_service(tmp_path, command=command) as service:
        with service.client.stream("GET", "/stream?pause=0.5") as response:
            next(response.iter_raw())
            service.program.stop()
        assert [s.name for s in server_spans(service) if "stream" in s.name] == ["GET /stream"]


def test_what_is_disabled_stays_so_when_the_application_calls_instrument(tmp_path):
    environment = {
        "SMALL_APP": "calls instrument",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "otel_coach_langchain",
    }
    for command in (BARE, INSTRUMENTED):
        with small_service(tmp_path, command=command, **environment) as service:
            service.client.get("/ask/x")
            page = service.page()
            assert page.sum(HTTP, endpoint="/ask/{name}") == 1
            assert page.sum("agent_llm_requests_total") == 0


# In this process


def test_instrument_called_late_watches_an_application_that_serves_already():
    from small_app import app

    import otel_coach
    from otel_coach.installation import install
    from otel_coach.settings import Settings

    with serving(app) as client:
        client.get("/ask/x")
        otel_coach.instrument(app, settings=Settings())
        try:
            assert install() is not None
            for _ in range(3):
                client.get("/ask/x")
            page = Page(client.get("/metrics").text)
            assert page.sum(HTTP, endpoint="/ask/{name}") == 3
            assert page.sum("agent_llm_requests_total") == 3
        finally:
            otel_coach.uninstrument()
        assert client.get("/metrics").status_code == 404


def test_instrument_watches_only_the_applications_handed_over():
    from fastapi import FastAPI

    import otel_coach
    from otel_coach.settings import Settings

    watched, other = FastAPI(), FastAPI()
    otel_coach.instrument(watched, settings=Settings())
    try:
        with serving(watched) as client:
            client.get("/a")
            page = Page(client.get("/metrics").text)
        with serving(other) as client:
            assert client.get("/metrics").status_code == 404
        assert page.sum(HTTP) == 1
    finally:
        otel_coach.uninstrument()


def test_instrument_without_an_application_watches_all():
    from fastapi import FastAPI

    import otel_coach
    from otel_coach.settings import Settings

    one, other = FastAPI(), FastAPI()
    otel_coach.instrument(one, settings=Settings())
    otel_coach.instrument()
    try:
        with serving(other) as client:
            assert client.get("/metrics").status_code == 200
    finally:
        otel_coach.uninstrument()


def test_uninstrument_restores_everything():
    import gc

    from fastapi import FastAPI
    from langchain_core.callbacks import AsyncCallbackManager
    from starlette.applications import Starlette

    import otel_coach
    from otel_coach.settings import Settings

    def patched():
        calls = (Starlette.__call__, FastAPI.__call__, AsyncCallbackManager.on_chain_start)
        return (*calls, list(gc.callbacks))

    before = patched()
    otel_coach.instrument(settings=Settings())
    assert all(now != then for now, then in zip(patched(), before, strict=True))
    otel_coach.uninstrument()
    assert patched() == before


def test_an_installation_that_cannot_start_says_so_once_and_the_host_goes_on(monkeypatch, caplog):
    import otel_coach
    from otel_coach import installation

    def broken(*_args, **_kwargs):
        raise LookupError("no SDK at postgresql://me:secret@host")

    monkeypatch.setattr(installation, "Providers", broken)
    monkeypatch.setattr(installation, "_cannot_start", False)
    otel_coach.instrument()
    otel_coach.instrument()
    assert installation.install() is None
    assert caplog.text.count("it cannot start (LookupError in test_distro.py:") == 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize("app", ["module:app", 7, lambda scope: None])
def test_instrument_says_what_it_takes(app):
    import otel_coach

    with pytest.raises(TypeError, match="FastAPI or Starlette application"):
        otel_coach.instrument(app)
