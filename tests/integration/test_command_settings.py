"""`opentelemetry-instrument uvicorn small_app:app`: what its variables and options say."""

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_coach.testing import Page
from tests.support.programs import ALONE
from tests.support.small_service import HTTP, check, plain_service, server_spans, small_service
from tests.support.stack import INSTRUMENTED
from tests.support.waiting import eventually


def test_without_an_endpoint_traces_go_nowhere_and_the_log_is_silent(tmp_path):
    for distro in ("otel_coach", "distro"):
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "",
            "OTEL_PYTHON_DISTRO": distro,
            "OTEL_PYTHON_CONFIGURATOR": "otel_coach",
        }
        with plain_service(tmp_path, **environment) as service:
            service.client.get("/hello/x")
            service.stop()
            assert "rror" not in service.log
            assert "onnection" not in service.log
            assert "Traceback" not in service.log


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
    with plain_service(tmp_path, command) as service:
        assert service.client.get("/metrics").status_code == 404
        Page(service.client.get("/internal/metrics").text)


def test_what_is_not_sampled_is_not_exported_but_measured(tmp_path):
    with small_service(tmp_path, **ALONE, OTEL_TRACES_SAMPLER="always_off") as service:
        check(service)
        service.stop()
        assert service.receiver.spans == []


def test_a_trace_goes_on_where_the_caller_began_it(tmp_path):
    with plain_service(tmp_path) as service:
        trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        headers = {"traceparent": f"00-{trace_id}-{span_id}-01"}
        service.client.get("/hello/x", headers=headers)
        service.stop()
        (span,) = (s for s in server_spans(service) if s.name == "GET /hello/{name}")
        assert (span.trace_id, span.parent_id) == (trace_id, span_id)


def test_a_missing_exporter_is_one_line_with_its_cure(tmp_path):
    with plain_service(tmp_path, OTEL_TRACES_EXPORTER="zipkin") as service:
        assert service.client.get("/health").status_code == 200
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
    with small_service(tmp_path, **ALONE, **wrong) as service:
        check(service)
        for name in wrong:
            lines = [line for line in service.log.splitlines() if name in line]
            assert len(lines) == 1, lines
        assert "hunter2" not in service.log


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "["}, "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS='['"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "-1"}, "OTEL_BSP_*"),
        (
            {"OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_METRIC_EXPORT_INTERVAL": "-1"},
            "OTEL_METRIC_EXPORT_*",
        ),
        ({"OTEL_EXPORTER_PROMETHEUS_HOST": "a..b"}, "OTEL_EXPORTER_PROMETHEUS_HOST=a..b"),
    ],
)
def test_a_wrong_setting_of_the_sdk_takes_at_most_its_own_part_away(tmp_path, wrong, named):
    with plain_service(tmp_path, **wrong) as service:
        assert service.client.get("/hello/x").status_code == 200
        if "OTEL_EXPORTER_PROMETHEUS_HOST" not in wrong:
            assert service.page().sum(HTTP, endpoint="/hello/{name}") == 1
        assert "Traceback" not in service.log
        assert sum(named in line for line in service.log.splitlines()) == 1
