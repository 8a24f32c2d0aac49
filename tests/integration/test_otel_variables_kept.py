"""OTEL_* variables that are honoured: all set in one process, whose telemetry is read."""

import json
import subprocess
import sys

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from tests.support.environment import without_settings
from tests.support.otel_variables import documented
from tests.support.otlp import Receiver
from tests.support.paths import APPS
from tests.support.stack import bin_path

# What otel-coach builds, with each variable set: one process, whose telemetry is read as it left.

SET = {
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "3",
    "OTEL_BSP_MAX_QUEUE_SIZE": "500",
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BSP_EXPORT_TIMEOUT": "20000",
    "OTEL_BLRP_EXPORT_TIMEOUT": "20000",
    "OTEL_METRIC_EXPORT_INTERVAL": "50000",
    "OTEL_METRIC_EXPORT_TIMEOUT": "4000",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "9",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "6",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "1",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "1",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process,otel",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    "OTEL_SERVICE_NAME": "a-shop",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
        "base2_exponential_bucket_histogram"
    ),
    "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    "OTEL_PROPAGATORS": "baggage",
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
    "OTEL_METRICS_EXPORTER": "prometheus,otlp",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
}
SCRIPT = """
import json, logging
from opentelemetry import metrics, propagate, trace
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from otel_coach.setup.installation import install

given = {"a": "123456789", "b": "123456789", "c": "123456789"}
tracer = trace.get_tracer("shop")
here = trace.SpanContext(1, 2, is_remote=False)
for number in range(7):
    with tracer.start_as_current_span(
        "an order", attributes=given, links=[trace.Link(here, given), trace.Link(here)]
    ) as span:
        span.add_event("paid", given)
        span.add_event("sent", given)
meter = metrics.get_meter("shop")
meter.create_counter("orders").add(1)
meter.create_histogram("prices").record(5)
logging.getLogger("shop").warning("an order", extra=given)
carrier = {}
with tracer.start_as_current_span("another"):
    propagate.inject(carrier)
print(json.dumps(carrier))
install().providers.flush()
"""


@pytest.fixture(scope="module")
def left():
    """What left a process that has all of them set, decoded, and what it printed."""
    with Receiver() as receiver:
        environment = {
            **without_settings(),
            **SET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        printed = subprocess.run(
            [bin_path("opentelemetry-instrument"), sys.executable, "-c", SCRIPT],
            env=environment,
            cwd=APPS,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
        requests = list(receiver.requests)
    decoders = {
        "/v1/traces": ExportTraceServiceRequest,
        "/v1/metrics": ExportMetricsServiceRequest,
        "/v1/logs": ExportLogsServiceRequest,
    }
    sent = {
        path: [kind.FromString(body) for one, body in requests if one == path]
        for path, kind in decoders.items()
    }
    return {**sent, "printed": printed.splitlines()[0]}


def spans_of(request):
    return [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]


def test_the_batch_variables_of_spans_are_kept(left):
    sizes = [len(spans_of(request)) for request in left["/v1/traces"]]
    assert sum(sizes) == 8
    assert max(sizes) == 3


def test_the_limits_of_spans_are_kept(left):
    span = spans_of(left["/v1/traces"][0])[0]
    assert [pair.key for pair in span.attributes] == ["b", "c"]
    assert {pair.value.string_value for pair in span.attributes} == {"1234"}
    assert [event.name for event in span.events] == ["sent"]
    assert [pair.key for pair in span.events[0].attributes] == ["c"]
    assert len(span.links) == 1
    assert len(span.links[0].attributes) <= 1


def test_the_limits_of_log_records_are_kept(left):
    if "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT" not in documented():
        return  # SDKs before 1.41 have no such limit
    (record,) = (
        record
        for request in left["/v1/logs"]
        for resource in request.resource_logs
        for scope in resource.scope_logs
        if scope.scope.name == "shop"
        for record in scope.log_records
    )
    assert len(record.attributes) == 1
    assert record.dropped_attributes_count == 5  # the handler adds three: file, function, line


def test_the_resource_is_what_the_variables_say(left):
    for request in (
        left["/v1/traces"][0].resource_spans[0],
        left["/v1/metrics"][0].resource_metrics[0],
        left["/v1/logs"][0].resource_logs[0],
    ):
        keys = {pair.key: pair.value.string_value for pair in request.resource.attributes}
        assert keys["service.name"] == "a-shop"
        assert keys["deployment.environment.name"] == "test"
        assert "process.pid" in keys


def metrics_of(left):
    return {
        metric.name: metric
        for request in left["/v1/metrics"]
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_the_shape_of_exported_metrics_is_what_the_variables_say(left):
    found = metrics_of(left)
    assert found["orders"].sum.aggregation_temporality == (
        AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    )
    assert found["prices"].HasField("exponential_histogram")
    assert found["prices"].exponential_histogram.data_points[0].exemplars  # no span was sampled


def test_the_sdks_own_metrics_are_there_where_they_are_asked_for(left):
    is_known = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED" in documented()
    assert any(name.startswith("otel.sdk.") for name in metrics_of(left)) or not is_known


def test_the_propagators_are_what_the_variable_says(left):
    assert json.loads(left["printed"]) == {}
