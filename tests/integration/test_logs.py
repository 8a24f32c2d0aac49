"""The application's own log export: what leaves is what left before otel-coach was installed."""

import subprocess
import sys

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk import environment_variables

from tests.support.environment import without_settings
from tests.support.logging_script import HANDLER, OTLP, OURS, both, instrumented, received, run
from tests.support.otlp import Receiver
from tests.support.programs import free_port
from tests.support.stack import bin_path


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
            **without_settings(),
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
