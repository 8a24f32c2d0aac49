"""docs/coming-from.md: each name of the packages that are replaced, and only names that are here.

The names were read from the packages: prometheus-fastapi-instrumentator 8.1.0, starlette_exporter
0.24.0, traceloop-sdk 0.62.4 (with its instrumentations of LangChain, openai and anthropic),
opentelemetry-distro and opentelemetry-instrumentation-fastapi 0.66b1.
"""

import re

import pytest

from otel_coach.configuration.otel_variables import WITHOUT_EFFECT
from otel_coach.configuration.setting import settings_of
from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.settings import Settings
from tests.support.otel_variables import documented
from tests.support.paths import ROOT

NAMES = {
    "prometheus-fastapi-instrumentator": """
        http_requests_total http_request_size_bytes http_response_size_bytes
        http_combined_size_bytes http_request_duration_seconds http_request_duration_highr_seconds
        http_requests_inprogress handler
        should_group_status_codes should_ignore_untemplated should_group_untemplated
        should_include_root_path should_round_latency_decimals should_respect_env_var
        should_instrument_requests_inprogress should_exclude_streaming_duration excluded_handlers
        body_handlers round_latency_decimals env_var_name ENABLE_METRICS inprogress_name
        inprogress_labels registry metric_namespace metric_subsystem metric_name
        should_only_respect_2xx_for_highr latency_highr_buckets latency_lowr_buckets should_gzip
        endpoint include_in_schema tags add instrument expose PROMETHEUS_MULTIPROC_DIR
    """,
    "starlette_exporter": """
        starlette_requests_total starlette_request_duration_seconds starlette_requests_in_progress
        starlette_response_body_bytes_total starlette_request_body_bytes_total
        method path status_code app_name group_paths prefix buckets filter_unhandled_paths
        skip_paths skip_methods optional_metrics always_use_int_status labels exemplars
        group_unhandled_paths from_header from_response_header handle_metrics handle_openmetrics
        PrometheusMiddleware
    """,
    "OpenLLMetry": """
        gen_ai.client.generation.choices gen_ai.client.token.usage gen_ai.client.operation.duration
        gen_ai.server.time_to_first_token llm.openai.chat_completions.exceptions
        llm.chat_completions.streaming_time_to_generate llm.openai.embeddings.exceptions
        llm.openai.embeddings.vector_size llm.openai.image_generations.exceptions
        llm.anthropic.completion.exceptions
        app_name api_endpoint api_key enabled headers disable_batch telemetry_enabled exporter
        metrics_exporter metrics_headers logging_exporter logging_headers processor propagator
        sampler traceloop_sync_enabled should_enrich_metrics resource_attributes instruments
        block_instruments image_uploader span_postprocess_callback endpoint_is_traceloop
        use_attributes use_legacy_attributes
        TRACELOOP_API_KEY TRACELOOP_BASE_URL TRACELOOP_EXP_SLUG TRACELOOP_HEADERS
        TRACELOOP_LOGGING_ENABLED TRACELOOP_LOGGING_ENDPOINT TRACELOOP_LOGGING_HEADERS
        TRACELOOP_METRICS_ENABLED TRACELOOP_METRICS_ENDPOINT TRACELOOP_METRICS_HEADERS
        TRACELOOP_SUPPRESS_WARNINGS TRACELOOP_TRACE_CONTENT TRACELOOP_TRACING_ENABLED
        conversation task workflow agent tool guardrail set_association_properties
        set_workflow_name set_agent_name
    """,
    "opentelemetry-distro": """
        http.server.duration http.server.request.duration http.server.active_requests
        http.server.request.size http.server.response.size http.server.request.body.size
        http.server.response.body.size
        server_request_hook client_request_hook client_response_hook tracer_provider meter_provider
        excluded_urls http_capture_headers_server_request http_capture_headers_server_response
        http_capture_headers_sanitize_fields exclude_spans
        OTEL_TRACES_EXPORTER OTEL_METRICS_EXPORTER OTEL_LOGS_EXPORTER OTEL_EXPORTER_OTLP_PROTOCOL
        OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS
        OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST
        OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE
        OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH OTEL_PYTHON_CONFIGURATOR
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS OTEL_PYTHON_DISTRO OTEL_PYTHON_EXCLUDED_URLS
        OTEL_PYTHON_FASTAPI_EXCLUDED_URLS OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS
        OTEL_SEMCONV_STABILITY_OPT_IN opentelemetry-bootstrap opentelemetry-instrument
        FastAPIInstrumentor
    """,
}
PAGE = (ROOT / "docs" / "coming-from.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def cells(section):
    """The first and the second cell of each row."""
    for line in SECTIONS[section].splitlines():
        if line.startswith("| "):
            there, here = line[2:-2].split(" | ")
            yield there, here


def code(text):
    return " ".join(re.findall(r"`([^`]+)`", text))


def test_the_page_has_these_sections():
    assert {*SECTIONS} == {*NAMES}


@pytest.mark.parametrize("section", NAMES)
def test_each_name_of_the_package_has_a_row(section):
    there = code(" ".join(there for there, _ in cells(section)))
    named = {*re.findall(r"[\w.-]*\w", there), *re.findall(r"\w+", there)}
    assert [name for name in NAMES[section].split() if name not in named] == []


@pytest.mark.parametrize("section", NAMES)
def test_each_counterpart_is_there(section):
    here = code(" ".join(here for _, here in cells(section)))
    variables = {name for _, setting in settings_of(Settings) for name in setting.variables}
    found = set(re.findall(r"\bOTEL_[A-Z_]+\b", here))
    assert found <= variables | set(documented()) | {*WITHOUT_EFFECT}
    families = {metric.prometheus_name for metric in CATALOGUE}
    names = re.findall(r"\b(?:app|agent|http_server)_\w+(?<!_)", here)
    names = {name.removesuffix("_count") for name in names if f"{name}_*" not in here}
    assert names <= families
