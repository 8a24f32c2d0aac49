"""OTEL_CONFIG_FILE: the file's providers, and otel-coach beside them."""

import pytest
from test_distro import HTTP, server_spans, small_service
from test_logs import OURS, run

from otel_coach.declarative import configured
from otel_coach.settings import Settings

pytest.importorskip("opentelemetry.configuration", reason="the oldest SDKs have no such package")

FILE = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: from-the-file
tracer_provider:
  processors:
    - simple:
        exporter:
          otlp_http:
            endpoint: ${OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces
"""


@pytest.mark.parametrize("variable", ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"])
def test_spans_leave_by_the_files_processors_and_figures_are_on_the_page(tmp_path, variable):
    path = tmp_path / "otel.yaml"
    path.write_text(FILE)
    ignored = {"OTEL_SERVICE_NAME": "from-a-variable", "OTEL_TRACES_EXPORTER": "console"}
    with small_service(tmp_path, **{variable: str(path)}, **ignored) as service:
        service.client.get("/ask/x")
        assert service.page().sum(HTTP, endpoint="/ask/{name}") == 1
        service.stop()
        names = [span.name for span in server_spans(service)]
        assert names.count("GET /ask/{name}") == 1
        bodies = b"".join(body for _, body in service.receiver.requests)
        assert b"from-the-file" in bodies
        assert b"from-a-variable" not in bodies
        assert '"name":' not in service.log  # the console exporter was not asked
        said = [line for line in service.log.splitlines() if "OTEL_CONFIG_FILE" in line]
        assert len(said) == 1


@pytest.mark.parametrize("text", ["file_format: '1.0'\nno: [", "tracer_provider: {}", None])
def test_a_file_that_cannot_be_used_is_one_line_and_the_variables_count(tmp_path, text, caplog):
    path = tmp_path / "otel.yaml"
    if text is not None:
        path.write_text(text)
    environ = {"OTEL_CONFIG_FILE": str(path), "OTEL_TRACES_EXPORTER": "console"}
    settings = Settings.from_env(environ)
    assert configured(settings, is_done=False) is settings
    ours = [record.getMessage() for record in caplog.records if record.name == "otel_coach"]
    assert [str(path) in line for line in ours] == [True]


def test_without_the_package_one_line_says_what_to_install(monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.configuration", None)
    settings = Settings.from_env({"OTEL_CONFIG_FILE": "otel.yaml"})
    assert configured(settings, is_done=False) is settings
    (record,) = caplog.records
    assert "opentelemetry-sdk[file-configuration]" in record.getMessage()


def test_a_file_that_disables_the_sdk_disables_all(tmp_path):
    path = tmp_path / "otel.yaml"
    path.write_text("file_format: '1.0'\ndisabled: true\n")
    assert not configured(Settings(config_file=str(path)), is_done=False).enabled


def test_the_stock_configurator_reads_the_file_once(tmp_path):
    path = tmp_path / "otel.yaml"
    path.write_text("file_format: '1.0'\ntracer_provider:\n  processors: []\n")
    stock = {**OURS, "OTEL_PYTHON_CONFIGURATOR": "configurator", "OTEL_CONFIG_FILE": str(path)}
    assert "Overriding" not in run(**stock).stderr
