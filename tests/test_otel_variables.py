"""Every OTEL_* variable that OpenTelemetry documents is judged: honoured, or named in the log.

The variables come from the installed packages (their modules `environment_variables`, and every
constant in their code) and from the specification's list: a new one fails the test until it is
judged here.
"""

import ast
import functools
import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions, entry_points
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from demo.otlp import Receiver
from demo.stack import bin_path
from otel_coach.otel_variables import WITHOUT_EFFECT
from otel_coach.settings import Settings

TESTS = Path(__file__).parent
SIGNALS = ("TRACES", "METRICS", "LOGS")

# Of the specification, which the installed packages do not name.
OF_THE_SPECIFICATION = {
    "OTEL_CONFIG_FILE",
    "OTEL_ENTITIES",
    "OTEL_EXPERIMENTAL_CONFIG_FILE",
    "OTEL_EXPORTER_JAEGER_AGENT_HOST",
    "OTEL_EXPORTER_JAEGER_AGENT_PORT",
    "OTEL_EXPORTER_JAEGER_ENDPOINT",
    "OTEL_EXPORTER_JAEGER_PASSWORD",
    "OTEL_EXPORTER_JAEGER_PROTOCOL",
    "OTEL_EXPORTER_JAEGER_TIMEOUT",
    "OTEL_EXPORTER_JAEGER_USER",
    "OTEL_EXPORTER_OTLP_METRIC_INSECURE",
    "OTEL_EXPORTER_OTLP_SPAN_INSECURE",
    "OTEL_EXPORTER_ZIPKIN_PROTOCOL",
    "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_LOG_LEVEL",
    "OTEL_PYTHON_EXCLUDED_URLS",
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS",
}

# By whom a variable is honoured, and where that is shown. `here` is this file.
THE_API = "the API, before anything of otel-coach runs"
THE_COMMAND = "opentelemetry-instrument; test_distro.py"
SETTINGS = "otel_coach.settings; test_settings.py, test_distro.py"
INSTRUMENTATION = "the instrumentation of that name, which is loaded as it is"
EXPORTER = "the exporter, which is made without arguments"
SDK = "the SDK, whose provider, processor or reader is made without that argument; here"
SPANS = "otel_coach.sdk, by the entry point of that name"
LOGS = "otel_coach.logs; test_logs.py"

HONOURED = {
    "OTEL_ATTRIBUTE_COUNT_LIMIT": SDK,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": SDK,
    "OTEL_BLRP_EXPORT_TIMEOUT": SDK,
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": f"{SDK}, test_logs.py",
    "OTEL_BLRP_MAX_QUEUE_SIZE": f"{SDK}, test_logs.py",
    "OTEL_BLRP_SCHEDULE_DELAY": f"{SDK}, test_logs.py",
    "OTEL_BSP_EXPORT_TIMEOUT": SDK,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": SDK,
    "OTEL_BSP_MAX_QUEUE_SIZE": SDK,
    "OTEL_BSP_SCHEDULE_DELAY": f"{SDK}, test_distro.py",
    "OTEL_CONFIG_FILE": "otel_coach.declarative; test_declarative.py",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": SDK,
    "OTEL_EXPERIMENTAL_CONFIG_FILE": "otel_coach.declarative; test_declarative.py",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": SDK,
    **{
        f"OTEL_EXPORTER_JAEGER_{part}": EXPORTER
        for part in (
            *("AGENT_HOST", "AGENT_PORT", "ENDPOINT", "PASSWORD"),
            *("PROTOCOL", "TIMEOUT", "USER"),
        )
    },
    **{
        f"OTEL_EXPORTER_OTLP_{signal}{part}": EXPORTER
        for signal in ("", *(f"{signal}_" for signal in SIGNALS))
        for part in (
            *("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "COMPRESSION"),
            *("ENDPOINT", "HEADERS", "INSECURE", "TIMEOUT"),
        )
    },
    **{
        f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL": SETTINGS
        for signal in ("", *(f"{signal}_" for signal in SIGNALS))
    },
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": f"{EXPORTER}; here",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": f"{EXPORTER}; here",
    "OTEL_EXPORTER_PROMETHEUS_HOST": SETTINGS,
    "OTEL_EXPORTER_PROMETHEUS_PORT": SETTINGS,
    **{f"OTEL_EXPORTER_ZIPKIN_{part}": EXPORTER for part in ("ENDPOINT", "PROTOCOL", "TIMEOUT")},
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": INSTRUMENTATION,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": SDK,
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": SDK,
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": f"{SDK}, test_logs.py",
    "OTEL_LOGS_EXPORTER": LOGS,
    "OTEL_METRICS_EXEMPLAR_FILTER": SDK,
    "OTEL_METRICS_EXPORTER": SETTINGS,
    "OTEL_METRIC_EXPORT_INTERVAL": f"{SDK}, test_distro.py",
    "OTEL_METRIC_EXPORT_TIMEOUT": SDK,
    "OTEL_PROPAGATORS": f"{THE_API}; here",
    "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH": THE_COMMAND,
    "OTEL_PYTHON_CONFIGURATOR": THE_COMMAND,
    "OTEL_PYTHON_CONTEXT": THE_API,
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": f"{THE_COMMAND}; {SETTINGS}",
    "OTEL_PYTHON_DISTRO": THE_COMMAND,
    "OTEL_PYTHON_EXCLUDED_URLS": SETTINGS,
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_{transport}_{signal}CREDENTIAL_PROVIDER": EXPORTER
        for transport in ("GRPC", "HTTP")
        for signal in ("", *(f"{signal}_" for signal in SIGNALS))
    },
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": EXPORTER,
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": SETTINGS,
    "OTEL_PYTHON_ID_GENERATOR": SPANS,
    "OTEL_PYTHON_LOGGER_CONFIGURATOR": LOGS,
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": LOGS,
    **{
        f"OTEL_PYTHON_LOG_{part}": f"{INSTRUMENTATION}; test_logs.py"
        for part in (
            *("AUTO_INSTRUMENTATION", "CODE_ATTRIBUTES", "CORRELATION"),
            *("FORMAT", "HANDLER_LEVEL", "LEVEL"),
        )
    },
    "OTEL_PYTHON_METER_CONFIGURATOR": SPANS,
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": SDK,
    "OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS": INSTRUMENTATION,
    "OTEL_PYTHON_TRACER_CONFIGURATOR": SPANS,
    "OTEL_RESOURCE_ATTRIBUTES": f"{SDK}, test_distro.py",
    "OTEL_SDK_DISABLED": f"{SETTINGS}; {SDK}",
    "OTEL_SEMCONV_STABILITY_OPT_IN": f"{INSTRUMENTATION}; otel-coach's own names have one form",
    "OTEL_SERVICE_NAME": f"{SDK}, test_distro.py",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": SDK,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": SDK,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": SDK,
    "OTEL_SPAN_LINK_COUNT_LIMIT": SDK,
    "OTEL_TRACES_EXPORTER": SETTINGS,
    "OTEL_TRACES_SAMPLER": SPANS,
    "OTEL_TRACES_SAMPLER_ARG": SPANS,
}

_VARIABLE = re.compile(r"OTEL_[A-Z0-9_]*[A-Z0-9]")


def constants(path):
    """The strings of a module that are names of variables and nothing else."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and _VARIABLE.fullmatch(node.value):
            yield node.value


@functools.cache
def documented():
    """What the installed packages of OpenTelemetry name, by the file that does."""
    found = {}
    for distribution in distributions():
        if not distribution.metadata["Name"].startswith("opentelemetry-"):
            continue
        for file in distribution.files or ():
            if file.suffix == ".py":
                path = Path(distribution.locate_file(file))
                found.update({name: str(file) for name in constants(path)})
    for entry_point in entry_points(group="opentelemetry_environment_variables"):
        if entry_point.name != "otel_coach":
            for value in vars(entry_point.load()).values():
                if isinstance(value, str) and _VARIABLE.fullmatch(value):
                    found.setdefault(value, entry_point.value)
    return found


def test_every_documented_variable_is_judged():
    names = {*documented(), *OF_THE_SPECIFICATION}
    unjudged = sorted(names - HONOURED.keys() - WITHOUT_EFFECT.keys())
    assert not unjudged, f"say for each whether it is honoured, and show it: {unjudged}"
    assert len(documented()) > 80


def test_no_variable_is_judged_twice():
    assert not HONOURED.keys() & WITHOUT_EFFECT.keys()


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_is_named_in_one_line_when_it_is_set(name, caplog):
    settings = Settings.from_env({name: "something"})
    settings.log_problems()
    assert [name in record.getMessage() for record in caplog.records] == [True]
    assert not Settings.from_env({name: " "}).without_effect


@pytest.mark.parametrize("name", HONOURED)
def test_what_is_honoured_is_not_said_to_have_no_effect(name):
    assert not Settings.from_env({name: "something"}).without_effect


def test_captured_headers_have_an_effect_where_they_may_leave():
    server = {"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-tenant"}
    allowed = {"OTEL_COACH_SPAN_ATTRIBUTES": "http.request.header.x_tenant"}
    stock = {"OTEL_COACH_SERVER_SPANS": "fastapi"}
    said = [
        len(Settings.from_env({**server, **more}).without_effect)
        for more in ({}, allowed, stock, {**allowed, **stock})
    ]
    assert said == [1, 1, 1, 0]


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
from otel_coach.installation import install

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
            **{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
            **SET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        printed = subprocess.run(
            [bin_path("opentelemetry-instrument"), sys.executable, "-c", SCRIPT],
            env=environment,
            cwd=TESTS,
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


def test_a_star_leaves_out_every_instrumentation():
    settings = Settings.from_env({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": " * "})
    assert settings.disables("otel_coach_asgi")
    assert not Settings().disables("otel_coach_asgi")
