"""What an operator names by OTEL_* variables is what runs: samplers, ids, configurators."""

import sys
import time

import pytest
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from opentelemetry.sdk.metrics import _internal as metrics
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from opentelemetry.trace import SpanKind
from starlette.testclient import TestClient

from otel_coach.settings import Settings
from otel_coach.testing import measuring

configurable = pytest.mark.skipif(
    not hasattr(metrics, "_MeterConfig"), reason="this SDK has no configurators"
)
PLUGIN = '''
import time
from opentelemetry.sdk._logs import LoggerProvider
import opentelemetry.sdk.metrics._internal as metrics
import opentelemetry.sdk.trace as traces
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased

asked = []
def off(argument):
    asked.append(argument)
    return ALWAYS_OFF
def breaks(argument): raise OSError("no config server")
def no_sampler(argument): return object()
class Ids(RandomIdGenerator):
    """As X-Ray wants them: the first 32 bits are the time."""
    def generate_trace_id(self): return int(time.time()) << 96 | 7
def not_ours(scope): return traces._TracerConfig(is_enabled=scope.name != "otel_coach")
def not_the_apps(scope): return metrics._MeterConfig(is_enabled=scope.name != "app")
'''
ENTRY_POINTS = """
[opentelemetry_traces_sampler]
example = example_plugin:off
breaks = example_plugin:breaks
nothing = example_plugin:no_sampler
missing = example_plugin:gone
[opentelemetry_id_generator]
example = example_plugin:Ids
[_opentelemetry_tracer_configurator]
example = example_plugin:not_ours
[_opentelemetry_meter_configurator]
example = example_plugin:not_the_apps
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch, read_entry_points_again):
    """A package of the operator's, as pip would have installed it."""
    (tmp_path / "example_plugin.py").write_text(PLUGIN)
    facts = tmp_path / "example_plugin-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: example-plugin\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    read_entry_points_again()
    yield
    sys.modules.pop("example_plugin", None)


def asked_once(monkeypatch, **variables):
    """What a service measures with these variables; the SDK reads some of them itself."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return measuring(Settings.from_env())


def ask():
    app = FastAPI()

    @app.get("/ask")
    async def ask():
        return (await FakeListChatModel(responses=["hi"]).ainvoke("hi")).content

    assert TestClient(app).get("/ask").json() == "hi"


def provider_of(measured):
    return measured.installation.providers.tracer_provider


def test_a_sampler_of_another_package_decides(plugin, monkeypatch):
    variables = {"OTEL_TRACES_SAMPLER": "example", "OTEL_TRACES_SAMPLER_ARG": "a=b"}
    with asked_once(monkeypatch, **variables) as measured:
        ask()
        assert provider_of(measured).sampler is ALWAYS_OFF
        assert sys.modules["example_plugin"].asked == ["a=b"]
        assert not measured.spans
        assert measured.page().sum("agent_llm_requests_total") == 1


def test_an_id_generator_of_another_package_makes_the_ids(plugin, monkeypatch):
    with asked_once(monkeypatch, OTEL_PYTHON_ID_GENERATOR="example") as measured:
        before = int(time.time())
        ask()
        server = next(span for span in measured.spans if span.kind is SpanKind.SERVER)
        assert before <= server.context.trace_id >> 96 <= time.time()
        assert {span.context.trace_id for span in measured.spans} == {server.context.trace_id}
        with provider_of(measured).get_tracer("app").start_as_current_span("own") as own:
            assert own.get_span_context().trace_id & 0xFFFF == 7


@pytest.mark.parametrize(
    ("variable", "name", "reason"),
    [
        ("OTEL_TRACES_SAMPLER", "nonsense", "no installed package"),
        ("OTEL_TRACES_SAMPLER", "breaks", "OSError"),
        ("OTEL_TRACES_SAMPLER", "nothing", "it is no Sampler"),
        ("OTEL_TRACES_SAMPLER", "missing", "AttributeError"),
        ("OTEL_PYTHON_ID_GENERATOR", "nonsense", "no installed package"),
        ("OTEL_PYTHON_TRACER_CONFIGURATOR", "nonsense", "no installed package"),
        ("OTEL_PYTHON_METER_CONFIGURATOR", "nonsense", "no installed package"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_the_default(
    plugin, monkeypatch, caplog, variable, name, reason
):
    with asked_once(monkeypatch, **{variable: name}) as measured:
        ask()
        assert len(measured.spans) == 2
        provider = provider_of(measured)
        assert "ParentBased{root:AlwaysOnSampler" in provider.sampler.get_description()
        assert type(provider.id_generator) is RandomIdGenerator
        assert measured.page().sum("agent_llm_requests_total") == 1
    (line,) = (r.getMessage() for r in caplog.records if r.name == "otel_coach" and r.levelno >= 40)
    assert f"{variable}={name}" in line
    assert reason in line
    assert "no config server" not in caplog.text


@pytest.mark.parametrize(
    ("name", "argument", "rate"),
    [
        ("traceidratio", "0.25", 0.25),
        ("traceidratio", "x", 1.0),
        ("traceidratio", "7", 1.0),
        ("TRACEIDRATIO", "0.25", 0.25),
    ],
)
def test_the_sdks_own_samplers_are_known_by_their_names(monkeypatch, name, argument, rate):
    variables = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    with asked_once(monkeypatch, **variables) as measured:
        sampler = provider_of(measured).sampler
        assert isinstance(sampler, TraceIdRatioBased)
        assert sampler.rate == rate


@configurable
def test_a_tracer_configurator_switches_our_spans_off(plugin, monkeypatch):
    with asked_once(monkeypatch, OTEL_PYTHON_TRACER_CONFIGURATOR="example") as measured:
        with provider_of(measured).get_tracer("app").start_as_current_span("own"):
            ask()
        assert [span.name for span in measured.spans] == ["own"]
        assert measured.page().sum("http_server_request_duration_seconds_count") == 1


@configurable
def test_one_that_comes_later_does_so_too_and_can_be_taken_back(plugin, measured):
    from example_plugin import not_ours
    from opentelemetry.sdk.trace import _default_tracer_configurator as default

    configure = provider_of(measured)._set_tracer_configurator
    ask()
    assert len(measured.spans) == 2
    configure(tracer_configurator=not_ours)
    ask()
    assert len(measured.spans) == 2
    configure(tracer_configurator=default)
    ask()
    assert len(measured.spans) == 4


@configurable
def test_a_meter_configurator_switches_meters_off(plugin, monkeypatch):
    with asked_once(monkeypatch, OTEL_PYTHON_METER_CONFIGURATOR="example") as measured:
        meters = measured.installation.providers.meter_provider
        for scope in ("app", "other"):
            meters.get_meter(scope).create_counter(f"{scope}_seen").add(1)
        ask()
        names = measured.page().names
        assert "other_seen_total" in names
        assert "app_seen_total" not in names
        assert "agent_llm_requests_total" in names
