"""A script that logs, under `opentelemetry-instrument`, and the records that it sent."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from tests.support.environment import without_settings
from tests.support.otlp import Receiver
from tests.support.paths import APPS
from tests.support.programs import ALONE
from tests.support.stack import bin_path

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
    """A script under `opentelemetry-instrument`, with no OTEL_* variable but ALONE and these."""
    environment = {
        **without_settings(),
        **ALONE,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "a-shop",
        **variables,
    }
    return subprocess.run(
        [bin_path("opentelemetry-instrument"), sys.executable, APPS / script, *arguments],
        env={key: value for key, value in environment.items() if value},
        cwd=APPS,
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
