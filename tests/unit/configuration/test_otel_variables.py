"""Every OTEL_* variable that OpenTelemetry documents is judged: honoured, or named in the log.

The variables come from the installed packages (their modules `environment_variables`, and every
constant in their code) and from the specification's list: a new one fails the test until it is
judged here.
"""

import pytest

from otel_coach.configuration.otel_variables import WITHOUT_EFFECT
from otel_coach.settings import Settings
from tests.support.otel_variables import documented

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
# By whom a variable is honoured, and where that is shown. `here` is
# test_otel_variables_kept.py.
THE_API = "the API, before anything of otel-coach runs"
THE_COMMAND = "opentelemetry-instrument; test_command.py, test_command_settings.py"
DECLARATIVE = "otel_coach.setup.declarative_configuration; test_declarative.py"
SETTINGS = "otel_coach.settings; test_settings.py, test_command_settings.py"
INSTRUMENTATION = "the instrumentation of that name, which is loaded as it is"
EXPORTER = "the exporter, which is made without arguments"
SDK = "the SDK, whose provider, processor or reader is made without that argument; here"
SPANS = "otel_coach.sdk.providers, by the entry point of that name"
LOGS = "otel_coach.sdk.logs; test_logs.py, test_log_export.py"
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
    "OTEL_BSP_SCHEDULE_DELAY": f"{SDK}, test_stopping.py",
    "OTEL_CONFIG_FILE": DECLARATIVE,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": SDK,
    "OTEL_EXPERIMENTAL_CONFIG_FILE": DECLARATIVE,
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
    "OTEL_METRIC_EXPORT_INTERVAL": f"{SDK}, test_command_settings.py",
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
    "OTEL_RESOURCE_ATTRIBUTES": f"{SDK}, test_command_settings.py",
    "OTEL_SDK_DISABLED": f"{SETTINGS}; {SDK}",
    "OTEL_SEMCONV_STABILITY_OPT_IN": f"{INSTRUMENTATION}; otel-coach's own names have one form",
    "OTEL_SERVICE_NAME": f"{SDK}, test_command_settings.py",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": SDK,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": SDK,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": SDK,
    "OTEL_SPAN_LINK_COUNT_LIMIT": SDK,
    "OTEL_TRACES_EXPORTER": SETTINGS,
    "OTEL_TRACES_SAMPLER": SPANS,
    "OTEL_TRACES_SAMPLER_ARG": SPANS,
}


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


def test_a_star_leaves_out_every_instrumentation():
    settings = Settings.from_env({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": " * "})
    assert settings.disables("otel_coach_asgi")
    assert not Settings().disables("otel_coach_asgi")
