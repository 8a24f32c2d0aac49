"""OTEL_CONFIG_FILE: the file's providers, and otel-coach beside them."""

from dataclasses import replace

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_coach.settings import Settings, effective
from otel_coach.setup import installation
from otel_coach.setup.declarative_configuration import configured
from tests.support.versions import HAS_CONFIGURATION_FILES

pytestmark = pytest.mark.skipif(not HAS_CONFIGURATION_FILES, reason="the oldest SDKs read none")


@pytest.mark.parametrize("text", ["file_format: '1.0'\nno: [", "tracer_provider: {}", None])
def test_a_file_that_cannot_be_used_is_one_line_and_the_variables_count(tmp_path, text, caplog):
    path = tmp_path / "otel.yaml"
    if text is not None:
        path.write_text(text)
    environ = {"OTEL_CONFIG_FILE": str(path), "OTEL_TRACES_EXPORTER": "console"}
    settings = Settings.from_env(environ)
    assert configured(settings, is_done=False) == replace(settings, config_file=None)
    ours = [record.getMessage() for record in caplog.records if record.name == "otel_coach"]
    assert [str(path) in line for line in ours] == [True]


def test_without_the_package_one_line_says_what_to_install(monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.configuration", None)
    settings = Settings.from_env({"OTEL_CONFIG_FILE": "otel.yaml"})
    assert configured(settings, is_done=False) == replace(settings, config_file=None)
    (record,) = caplog.records
    assert "opentelemetry-sdk[file-configuration]" in record.getMessage()


def test_a_file_whose_exporter_is_not_installed_names_the_exporters_package(
    tmp_path, monkeypatch, caplog
):
    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(__import__("sys").modules, exporter, None)
    path = tmp_path / "otel.yaml"
    path.write_text(
        "file_format: '1.0'\n"
        "tracer_provider: {processors: [{batch: {exporter: {otlp_http: {}}}}]}\n"
    )
    settings = Settings.from_env({"OTEL_CONFIG_FILE": str(path)})
    assert configured(settings, is_done=False) == replace(settings, config_file=None)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "otel_coach"]
    assert "cannot be used (opentelemetry-exporter-otlp-proto-http is not installed;" in line
    assert "opentelemetry-configuration is not installed" not in line


def test_a_file_that_disables_the_sdk_disables_all(tmp_path):
    path = tmp_path / "otel.yaml"
    path.write_text("file_format: '1.0'\ndisabled: true\n")
    assert not configured(Settings(config_file=str(path)), is_done=False).enabled


@pytest.mark.parametrize(
    ("exporters", "is_on_page"),
    [(None, True), ("otlp,console", True), ("none", False)],
)
def test_metrics_are_on_the_page_whatever_exporter_a_variable_names(
    tmp_path, exporters, is_on_page
):
    path = tmp_path / "otel.yaml"
    path.write_text("file_format: '1.0'\n")
    variables = {"OTEL_METRICS_EXPORTER": exporters} if exporters else {}
    settings = Settings.from_env({"OTEL_CONFIG_FILE": str(path), **variables})
    assert configured(effective(settings), is_done=True).serves_metrics is is_on_page


def test_a_meter_provider_of_the_applications_does_not_stand_for_the_files(monkeypatch):
    asked = []

    def note(settings, *, is_done):
        asked.append(is_done)
        return replace(settings, enabled=False)

    monkeypatch.setattr(metrics, "get_meter_provider", MeterProvider)
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setattr(installation, "configured", note)
    for name, value in (("_installed", None), ("_stays_off", False)):
        monkeypatch.setattr(installation, name, value)
    installation.install(Settings(config_file="otel.yaml"))
    monkeypatch.setattr(installation, "_stays_off", False)
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    installation.install(Settings(config_file="otel.yaml"))
    assert asked == [False, True]
