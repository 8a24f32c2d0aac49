"""What the start line says of the settings."""

import os
import sys

import pytest

import otel_coach
from otel_coach.instrumentors.dependencies import watch
from otel_coach.settings import Settings
from otel_coach.setup import start_line as start_line_module
from otel_coach.setup.start_line import start_line


@pytest.fixture(autouse=True)
def no_checks(monkeypatch):
    """Other tests decorate checks, too, which are known to the process."""
    monkeypatch.setattr(watch, "decorated", set())


def line(monkeypatch, modules=(), vendors=(), **variables):
    for module in ("fastapi", "starlette", "langchain_core", "openai", "anthropic", "psycopg"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for module in modules:
        monkeypatch.setitem(sys.modules, module, sys)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return start_line(Settings.from_env(), dict(os.environ), vendors=vendors)


def test_an_endpoint_that_has_no_host_is_said_to_be_unreadable(monkeypatch):
    said = line(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT='"http://localhost:4318"')
    assert "traces to an address that cannot be read; " in said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "metrics at /metrics; no traces; watching nothing."),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secret@collector:4318/base?key=secret"},
            "metrics at /metrics; traces to http://collector:4318; watching nothing.",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://[::1]:4317",
                "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_TRACES_EXPORTER": "otlp,console",
            },
            "metrics to http://a:4318; traces to https://[::1]:4317 and to console; watching",
        ),
        (
            {"OTEL_EXPORTER_PROMETHEUS_PORT": "9464", "OTEL_COACH_METRICS_PATH": "/m"},
            "metrics at http://localhost:9464/m; no traces",
        ),
        (
            {"OTEL_EXPORTER_PROMETHEUS_PORT": "9464", "OTEL_EXPORTER_PROMETHEUS_HOST": "::1"},
            "metrics at http://[::1]:9464/metrics; no traces",
        ),
        (
            {"OTEL_EXPORTER_PROMETHEUS_PORT": "0"},
            "metrics at /metrics on a free port, which another line names; no traces",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "otlp"}
            | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "no metrics; traces to http://localhost:4317; watching nothing",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "console"},
            "metrics to console; no traces; watching nothing",
        ),
        (
            {"OTEL_COACH_DEPENDENCIES": "a=tcp://h:1"},
            "metrics at /metrics; no traces; watching 1 dependency.",
        ),
        (
            {"OTEL_COACH_DEPENDENCIES": "a=tcp://h:1,b=tcp://h:2"},
            "metrics at /metrics; no traces; watching 2 dependencies.",
        ),
    ],
)
def test_it_says_where_the_figures_are_and_no_secret(monkeypatch, variables, said):
    text = line(monkeypatch, **variables)
    assert text.startswith(f"version {otel_coach.__version__}: {said}")
    assert "secret" not in text
    assert text.endswith(
        "`otel-coach doctor` looks for mistakes, OTEL_COACH_QUIET=true hides this line"
    )


def test_a_vendors_distro_sends_the_traces(monkeypatch):
    told = line(monkeypatch, vendors=["acme", "acme_config"])
    assert "; traces as acme and acme_config sends them; " in told


def test_a_check_of_the_applications_own_is_a_dependency_too(monkeypatch):
    @otel_coach.watch_dependency("cache")
    def check(): ...

    @otel_coach.watch_dependency("db")
    def also_probed(): ...

    told = line(monkeypatch, OTEL_COACH_DEPENDENCIES="db=tcp://h:1")
    assert "watching 2 dependencies." in told
    disabled = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "otel_coach_dependencies"}
    assert "watching nothing." in line(monkeypatch, **disabled)


def test_it_names_what_is_imported_and_watched(monkeypatch):
    from importlib.metadata import version

    def short(name):
        return ".".join(version(name).split(".")[:2])

    modules = ("fastapi", "starlette", "langchain_core", "openai", "psycopg")
    text = line(monkeypatch, modules)
    assert (
        f"watching FastAPI {short('fastapi')}, LangChain {short('langchain-core')}, "
        f"openai {short('openai')}, psycopg {short('psycopg')}." in text
    )
    disabled = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "otel_coach_langchain,psycopg"}
    text = line(monkeypatch, modules[1:], **disabled)
    assert f"watching Starlette {short('starlette')}, openai {short('openai')}." in text


def test_an_exporter_that_is_not_installed_is_not_named(monkeypatch):
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_env()
    told = "and to http://127.0.0.1:4318; traces to http://127.0.0.1:4318"
    assert told in start_line(settings, variables)
    late = {**variables, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://late:1"}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://late:1")
    assert told in start_line(settings, variables)
    assert "traces to http://late:1" in start_line(settings, late)
    monkeypatch.setattr(start_line_module, "has_exporter", lambda *_: False)
    assert "metrics at /metrics; no traces" in start_line(settings, variables)
