"""Beside other packages' instrumentations: no content, person or address is exported in a span.

Each package is the real one. It instruments a process of its own, which sends its spans to a
receiver over OTLP. A provider's double records the headers that it receives.
"""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.otlp import Receiver
from verification.canary.double import Double

PLANTED = ("PROMPT", "ANSWER", "USER", "SESSION", "KEY", "ORGANIZATION", "BAGGAGE")
SECRETS = {name: f"c4nary{place}x{name.lower()}" for place, name in enumerate(PLANTED)}
ADDRESS = "localhost"
HOST = Path(__file__).with_name("host.py")
pytestmark = pytest.mark.timeout(240)
OURS = "otel_coach"
ANTHROPICS = "com.anthropic.sdk.python"
CAPTURE = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}
DIRECT = {"anthropic_alone", "logfire", "openai_alone", "openlit"}
"""Hosts that call a provider without LangChain: an instrumentation of their HTTP client cannot know
that the server is a provider (see docs/security.md)."""
SENT_BY_THEMSELVES = {"openlit": "/v1/logs"}
"""Paths that the package's own exporter sends to; otel-coach is not involved (docs/security.md)."""
ASKED_FOR = {"OTEL_COACH_PROPAGATE_TO_PROVIDERS": "true"}


@contextmanager
def run_host(name, folder, **more):
    """Runs the host `name`; yields what was exported and the calls that the provider received."""
    double = Double(SECRETS["ANSWER"], SECRETS["ORGANIZATION"])
    with double, Receiver() as receiver:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("opentelemetry-instrument"),
                sys.executable,
                HOST,
                name,
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "DOUBLE": double.url,
                "OPENAI_API_KEY": SECRETS["KEY"],
                "ANTHROPIC_API_KEY": SECRETS["KEY"],
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_METRICS_EXPORTER": "prometheus,otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx,httpx2" * (name in DIRECT),
                "OTEL_PYTHON_DISTRO": "otel_coach",
                "OTEL_PYTHON_CONFIGURATOR": "otel_coach",
                **{f"CANARY_{key}": value for key, value in SECRETS.items()},
                **more,
            },
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=200,
            check=False,
        )
        assert not done.returncode, done.stderr
        own_path = SENT_BY_THEMSELVES.get(name)
        sent = b"".join(body for path, body in receiver.requests if path != own_path)
        yield SimpleNamespace(
            found={key for key, value in SECRETS.items() if value.encode() in sent},
            tells_the_address=ADDRESS.encode() in sent,
            spans=receiver.spans,
            scopes={span.scope for span in receiver.spans},
            calls=double.calls,
        )


def headers(left):
    return [{"traceparent", "baggage"} & set(sent) for _, sent in left.calls]


SCOPES = {
    "langchain": {
        OURS,
        "openinference.instrumentation.langchain",
        "opentelemetry.instrumentation.openai.v1",
    },
    "openai_alone": {
        "openinference.instrumentation.openai",
        "opentelemetry.instrumentation.openai.v1",
    },
    "anthropic_alone": {ANTHROPICS, "opentelemetry.instrumentation.anthropic"},
    "langfuse": {OURS, "langfuse-sdk"},
    "logfire": {OURS},
    "traceloop": {OURS, "opentelemetry.instrumentation.langchain", "traceloop.tracer"},
}
"""The scopes that must be among the spans, which shows that each package has made some."""


@pytest.mark.parametrize("name", SCOPES)
def test_nothing_of_content_people_and_addresses_leaves(name, tmp_path):
    with run_host(name, tmp_path) as left:
        assert left.scopes >= SCOPES[name]
        assert left.found == set()
        assert not left.tells_the_address
        assert left.calls
        assert set().union(*headers(left)) == set()


def test_openlit(tmp_path):
    with run_host("openlit", tmp_path) as left:
        assert {
            "openlit.instrumentation.openai",
            "openlit.instrumentation.anthropic",
        } <= left.scopes
        assert left.found == set()
        assert not left.tells_the_address
        assert len(left.calls) == 3
        # The call by LangChain. openlit loads the instrumentation of httpx, which cannot know that
        # the other calls go to a provider.
        assert headers(left)[-1] == set()


def test_a_call_that_has_our_span_has_none_of_the_anthropic_package(tmp_path):
    with run_host("anthropic_below_langchain", tmp_path) as left:
        assert ANTHROPICS not in left.scopes
        (ours,) = [span for span in left.spans if span.scope == OURS]
        assert ours.attributes["gen_ai.usage.input_tokens"] == 3
        known = {span.span_id for span in left.spans} | {""}
        assert {span.parent_id for span in left.spans} <= known  # there is no orphan
        assert left.found == set()
        assert headers(left) == [set()]


def test_a_call_of_the_anthropic_package_alone_has_its_span_redacted(tmp_path):
    with run_host("anthropic_alone", tmp_path) as left:
        (span,) = [span for span in left.spans if span.scope == ANTHROPICS]
        assert span.name == "anthropic.messages.create"
        assert span.attributes == {
            "gen_ai.provider.name": "anthropic",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "claude-canary",
            "gen_ai.response.model": "claude-canary",
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 2,
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "http.route": "/v1/messages",
            "url.scheme": "http",
        }


@pytest.mark.parametrize(
    "more",
    [{}, {"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_TRACES_EXPORTER": "none"}],
    ids=["traced", "not sampled", "not traced"],
)
@pytest.mark.parametrize("name", ["anthropic_alone", "anthropic_below_langchain", "langchain"])
def test_a_provider_gets_no_baggage_traced_or_not(name, more, tmp_path):
    with run_host(name, tmp_path, **more) as left:
        assert headers(left) == [set()]


def test_a_provider_gets_both_where_an_operator_asks_for_it(tmp_path):
    with run_host("anthropic_alone", tmp_path, **ASKED_FOR) as left:
        assert headers(left) == [{"traceparent", "baggage"}]


@pytest.mark.parametrize("name", ["langchain", "langfuse", "traceloop"])
def test_with_capture_on_content_leaves_and_nothing_else_does(name, tmp_path):
    with run_host(name, tmp_path, **CAPTURE) as left:
        assert {"PROMPT", "ANSWER"} <= left.found
        assert not {"SESSION", "KEY", "ORGANIZATION", "BAGGAGE"} & left.found


def test_the_anthropic_package_is_as_it_is_relied_on():
    from otel_coach.core import compatibility

    assert compatibility.ANTHROPIC_HEADERS.is_there
    assert compatibility.ANTHROPIC_HEADERS.holds()
