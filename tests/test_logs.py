"""The application's own log export: what leaves is what left before otel-coach was installed."""

import logging
import logging.config
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from opentelemetry import _logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.sdk import environment_variables
from test_distro import small_service

from demo.otlp import Receiver
from demo.programs import free_port
from demo.stack import bin_path
from otel_coach.settings import Settings

TESTS = Path(__file__).parent
instrumented = pytest.mark.skipif(
    find_spec("opentelemetry.instrumentation.logging") is None,
    reason="`make test-canary` has opentelemetry-instrumentation-logging, and runs these, too",
)
HANDLER = {"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"}
OTLP = {"OTEL_LOGS_EXPORTER": "otlp", **HANDLER}
STOCK = {
    "OTEL_COACH_DISABLED": "true",
    "OTEL_PYTHON_DISTRO": "distro",
    "OTEL_PYTHON_CONFIGURATOR": "configurator",
}
OURS = {"OTEL_PYTHON_DISTRO": "otel_coach", "OTEL_PYTHON_CONFIGURATOR": "otel_coach"}


def run(*arguments, endpoint="", script="logging_app.py", **variables):
    """A script under `opentelemetry-instrument`, with no OTEL_* variable but these."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "a-shop",
        **variables,
    }
    return subprocess.run(
        [bin_path("opentelemetry-instrument"), sys.executable, TESTS / script, *arguments],
        env={key: value for key, value in environment.items() if value},
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def value(any_value):
    kind = any_value.WhichOneof("value")
    return kind and getattr(any_value, kind)


def without_ids(pair):
    kept = value(pair.value)
    return pair.key, len(kept) if pair.key in {"otelSpanID", "otelTraceID"} else kept


def received(receiver):
    """What came as log records, without what differs from run to run: times and ids."""
    return sorted(
        (
            {pair.key: value(pair.value) for pair in resource.resource.attributes}["service.name"],
            scope.scope.name,
            SeverityNumber.Name(record.severity_number),
            record.severity_text,
            value(record.body),
            dict(map(without_ids, record.attributes)),
            (len(record.trace_id), len(record.span_id), record.flags),
        )
        for path, body in receiver.requests
        if path == "/v1/logs"
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        if scope.scope.name.startswith("shop")
    )


def both(*arguments, **variables):
    """What the stock command sends, and what is sent with otel-coach."""

    def records(who):
        with Receiver() as receiver:
            run(*arguments, endpoint=receiver.endpoint, **who, **variables)
            return received(receiver)

    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(records, (STOCK, OURS)))


@pytest.mark.parametrize("first", ["nothing", "basicConfig", "dictConfig"])
def test_records_leave_as_the_stock_command_sends_them(first):
    # With the exporter's own threads at DEBUG, the stock command never comes to an end.
    stock, ours = both(first, "threads", **OTLP)
    assert ours == stock
    bodies = {record[4] for record in ours}
    assert bodies >= {"7 orders", "within a span", "it went wrong", "on fire"}
    assert len(ours) == (4 if first == "nothing" else 5)  # the root logger starts at WARNING
    failed = next(record for record in ours if record[4] == "it went wrong")
    assert failed[5]["exception.message"] == "secret"  # the application's log is its own
    assert next(r for r in ours if r[4] == "within a span")[6][:2] == (16, 8)
    assert next(r for r in ours if r[4] == "7 orders")[5]["customer"] == "anna"


@instrumented
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "OTEL_PYTHON_LOG_CORRELATION": "true",
            "OTEL_PYTHON_LOG_CODE_ATTRIBUTES": "true",
            "OTEL_PYTHON_LOG_HANDLER_LEVEL": "error",
        },
        {"OTEL_LOGS_EXPORTER": "none"},
    ],
    ids=lambda variables: " ".join(variables) or "none",
)
def test_the_instrumentation_of_logging_keeps_its_variables(variables):
    stock, ours = both(**variables)
    assert ours == stock


@instrumented
def test_the_format_of_the_instrumentation_of_logging_reaches_the_console():
    correlated = {
        "OTEL_PYTHON_LOG_CORRELATION": "true",
        "OTEL_PYTHON_LOG_FORMAT": "%(otelTraceID)s",
    }
    lines = run(**OURS, **correlated, OTEL_TRACES_EXPORTER="console").stderr.splitlines()
    (traced,) = (line for line in lines if len(line) == 32)  # others have 0
    assert int(traced, 16)


def test_the_console_exporter_shows_records():
    shown = run(**OURS, **HANDLER, OTEL_LOGS_EXPORTER="console").stdout
    assert '"body": "7 orders"' in shown
    assert '"severity_text": "WARN"' in shown


def test_the_variables_of_batches_and_limits_keep_their_meaning():
    tuning = {
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "2",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "100",
        "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3",
    }
    with Receiver() as receiver:
        run(endpoint=receiver.endpoint, **OURS, **OTLP, **tuning)
        sizes = [
            sum(
                len(scope.log_records)
                for resource in ExportLogsServiceRequest.FromString(body).resource_logs
                for scope in resource.scope_logs
            )
            for path, body in receiver.requests
            if path == "/v1/logs"
        ]
        assert max(sizes) == 2
        (order,) = (record for record in received(receiver) if record[4] == "7 orders")
        # The limit is that of SDKs which know its variable.
        knows = hasattr(environment_variables, "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT")
        assert order[5]["customer"] == ("ann" if knows else "anna")


def test_an_export_is_not_the_cause_of_the_next_one():
    """At DEBUG the HTTP client logs each request: records of that would never end."""
    script = (
        "import logging, time; logging.getLogger().setLevel(logging.DEBUG);"
        "logging.getLogger('shop').warning('one order'); time.sleep(1.5)"
    )
    with Receiver() as receiver:
        command = [bin_path("opentelemetry-instrument"), sys.executable, "-c", script]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
            **OURS,
            **OTLP,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BLRP_SCHEDULE_DELAY": "50",
            "OTEL_TRACES_EXPORTER": "none",
        }
        subprocess.run(command, env=environment, check=True, timeout=60)
        assert len(received(receiver)) == 1
        assert len(receiver.requests) <= 3  # without our guard: one every 50 ms


def test_a_dead_back_end_costs_one_line_and_no_loop():
    dead = f"http://127.0.0.1:{free_port()}"
    found = run("basicConfig", endpoint=dead, **OURS, **OTLP, OTEL_TRACES_EXPORTER="none")
    assert found.stdout.count("7 orders") == 1
    assert "Traceback" not in found.stderr.replace(
        "Traceback (most recent call last):\n  File", "", 1
    )
    assert (found.stdout + found.stderr).count("export") <= 2


def settings(**variables):
    return Settings.from_env(variables)


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
CAPTURE = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY"}
NO_INSTRUMENTATION = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "logging"}


@pytest.mark.parametrize(
    ("variables", "exporters", "exports", "handles"),
    [
        ({}, (), False, False),
        ({"OTEL_LOGS_EXPORTER": "console"}, ("console",), True, False),
        ({"OTEL_LOGS_EXPORTER": "none", **ENDPOINT}, (), False, False),
        ({"OTEL_LOGS_EXPORTER": "none", **HANDLER}, (), True, True),
        ({**HANDLER}, (), True, True),
        ({**HANDLER, **ENDPOINT}, ("otlp",), True, True),
        pytest.param(ENDPOINT, ("otlp",), True, False, marks=instrumented),
        ({**ENDPOINT, **NO_INSTRUMENTATION}, (), False, False),
        ({**ENDPOINT, "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "false"}, (), False, False),
        ({**ENDPOINT, **NO_INSTRUMENTATION, **CAPTURE}, ("otlp",), False, False),
        ({**CAPTURE, **NO_INSTRUMENTATION}, (), False, False),
    ],
)
def test_who_exports_what(variables, exporters, exports, handles):
    found = settings(**variables)
    assert (found.log_exporters, found.exports_logs, found.handles_logging) == (
        exporters,
        exports,
        handles,
    )


def test_a_server_sends_what_it_logged_at_its_end_and_nothing_of_fastapis_own_telemetry(tmp_path):
    slow = {"OTEL_BLRP_SCHEDULE_DELAY": "60000", "SMALL_APP": "logs"}
    with small_service(tmp_path, **OTLP, **slow) as service:
        assert service.client.get("/broken").status_code == 500
        service.stop()
        requests = [
            ExportLogsServiceRequest.FromString(body)
            for path, body in service.receiver.requests
            if path == "/v1/logs"
        ]
        scopes = {
            scope.scope.name
            for request in requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
        }
        assert "small" in scopes
        assert "fastapi" not in scopes
        # FastAPI's telemetry would send a stack trace with the message of each exception.
        assert b"a secret in a message" not in b"".join(
            body for path, body in service.receiver.requests if path == "/v1/logs"
        )


# In this process


@pytest.fixture
def handled():
    """The provider that a handler hands records to, and what arrives there."""
    from opentelemetry.sdk._logs.export import (
        InMemoryLogRecordExporter,
        SimpleLogRecordProcessor,
    )
    from opentelemetry.sdk.resources import Resource

    from otel_coach.logs import CoachLoggerProvider, install_handler

    exporter = InMemoryLogRecordExporter()
    provider = CoachLoggerProvider(Resource({}))
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    undo = install_handler(provider)
    try:
        yield provider, lambda: [one.log_record.body for one in exporter.get_finished_logs()]
    finally:
        undo()


def test_a_record_that_cannot_be_formatted_raises_nothing_into_the_application(handled, capsys):
    _, bodies = handled
    (handler,) = (
        h for h in logging.getLogger().handlers if type(h).__module__ == "otel_coach.logs"
    )
    wrong = logging.LogRecord("shop", logging.ERROR, __file__, 1, "%d", ("no number",), None)
    handler.handle(wrong)
    assert "--- Logging error ---" in capsys.readouterr().err
    logging.getLogger("shop").error("the next one")
    assert bodies() == ["the next one"]


def test_an_attribute_that_cannot_be_exported_makes_no_endless_record(handled):
    provider, bodies = handled
    assert not provider.has_records
    logging.getLogger("shop").error("odd", extra={"odd": object(), "odder": {1: object()}})
    assert bodies() == ["odd"]
    assert provider.has_records


def test_undone_nothing_is_left_of_the_handler():
    from opentelemetry.sdk.resources import Resource

    from otel_coach.logs import CoachLoggerProvider, install_handler

    def configuration():
        return (
            list(logging.getLogger().handlers),
            logging.basicConfig,
            logging.config.dictConfig,
            logging.config.fileConfig,
        )

    before = configuration()
    undo = install_handler(CoachLoggerProvider(Resource({})))
    assert all(now != then for now, then in zip(configuration(), before, strict=True))
    undo()
    assert configuration() == before


def test_a_provider_that_is_set_already_keeps_its_place(monkeypatch):
    from otel_coach.sdk import Providers

    theirs = object()
    monkeypatch.setattr("otel_coach.sdk.get_logger_provider", lambda: theirs)
    handlers = list(logging.getLogger().handlers)
    providers = Providers(settings(**HANDLER))
    try:
        providers.become_global()
        assert logging.getLogger().handlers == handlers
        assert _logs.get_logger_provider() is not providers.logger_provider
    finally:
        providers.shutdown()


@pytest.mark.parametrize("configurator", ["missing", ""])
def test_a_logger_configurator_that_is_not_there_is_one_line(configurator, caplog):
    from otel_coach.sdk import Providers

    providers = Providers(settings(**HANDLER, OTEL_PYTHON_LOGGER_CONFIGURATOR=configurator))
    providers.shutdown()
    assert caplog.text.count("OTEL_PYTHON_LOGGER_CONFIGURATOR=missing") == bool(configurator)
