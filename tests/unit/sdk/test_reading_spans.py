"""Whoever reads the current span finds what a span of the SDK would show, and has the last word."""

import contextvars
import copy
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from starlette.testclient import TestClient

from otel_coach.metrics.recorder import Recorder
from otel_coach.sdk.deferred_spans import DeferredSpan
from otel_coach.sdk.redaction import RedactingTracerProvider, Redaction
from otel_coach.testing import measuring
from tests.support.spans import Curious

PUBLIC = [
    name
    for name in dir(ReadableSpan)
    # The last one is a name of older SDKs for the scope, which is compared.
    if not name.startswith("_") and name != "instrumentation_info"
]
PARENT = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
LINKED = SpanContext(3, 4, is_remote=False)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Counted(IdGenerator):
    """The same ids for both."""

    def generate_span_id(self):
        return 21

    def generate_trace_id(self):
        return 42


class Adding(Sampler):
    """Samples, and lets the span start with more than was asked."""

    def should_sample(self, parent_context, trace_id, name, *args, attributes=None, **kwargs):
        given = {**(args[1] or {}), "sampled.by": "me"}
        return SamplingResult(Decision.RECORD_AND_SAMPLE, given)

    def get_description(self):
        return "Adding"


def read(span):
    """All that is public of `span`, and its type."""
    found = {}
    for name in PUBLIC:
        shown = getattr(span, name)
        value = shown() if callable(shown) else shown
        found[name] = type(value), value
    found["events"] = [(e.name, dict(e.attributes), e.timestamp) for e in span.events]
    found["links"] = [(one.context, dict(one.attributes)) for one in span.links]
    found["attributes"] = found["attributes"][0], dict(span.attributes)
    found["status"] = span.status.status_code, span.status.description
    return found


def both(**options):
    options = {"id_generator": Counted(), "resource": Resource({"who": "me"}), **options}
    ours = RedactingTracerProvider(Redaction(), Recorder(NoOpMeter("test")), **options)
    for provider in (ours, TracerProvider(**options)):
        provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
        yield provider.get_tracer("otel_coach", "1", "schema", {"scope": 1})


def server(tracer):
    context = set_span_in_context(trace.NonRecordingSpan(PARENT), Context())
    facts = {"http.request.method": "GET"}
    yield (span := tracer.start_span("GET", context, SpanKind.SERVER, facts, start_time=10))
    span.update_name("GET /ask")
    span.set_attributes({"http.route": "/ask", "http.response.status_code": 200})
    span.set_attribute("a list", ["a", "b"])
    yield span
    span.end(20)
    yield span


def failed_call(tracer):
    links = [Link(LINKED, {"l": 1})]
    yield (span := tracer.start_span("chat m", Context(), SpanKind.CLIENT, {}, links, 10))
    span.add_event("seen", {"k": [1, 2]}, 5)
    span.add_link(LINKED, {"m": "n"})
    span.set_status(StatusCode.ERROR, "no")
    yield span
    span.end(20)
    span.set_attribute("late", 1)
    yield span


def too_much(tracer):
    yield (span := tracer.start_span("execute_tool t", Context(), start_time=10))
    for number in range(200):
        span.set_attribute(f"a{number}", number)
        span.add_event("e", {}, number)
        span.add_link(LINKED, {"n": number})
    yield span
    span.end(20)
    yield span


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("story", [server, failed_call, too_much])
@pytest.mark.parametrize("sampler", [None, Adding()])
def test_a_span_shows_what_the_sdks_would(story, sampler):
    ours, theirs = both(sampler=sampler)
    moments = 0
    for our, their in zip(story(ours), story(theirs), strict=True):
        assert isinstance(our, DeferredSpan)
        assert read(our) == read(their)
        moments += 1
    assert moments == 3  # after its start, while it is open, after its end


def test_what_is_read_cannot_be_written():
    ours, _ = both()
    span = ours.start_span("x", attributes={"a": 1})
    with pytest.raises(TypeError):
        span.attributes["a"] = 2
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        span.nonsense  # noqa: B018


def test_it_can_be_read_while_another_thread_sets_attributes():
    ours, _ = both(sampler=Adding())
    span = ours.start_span("x")

    def setting():
        for number in range(5000):
            span.set_attribute(f"a{number % 100}", number)

    with ThreadPoolExecutor() as pool:
        done = pool.submit(setting)
        while not done.done():
            assert span.attributes["sampled.by"] == "me"
        done.result()
    assert span.attributes["a99"] == 4999


# In a service


def service(seen):
    app = FastAPI()

    def look(what, **changes):
        span = trace.get_current_span()
        seen.append((what, span, masked(span)))
        if "name" in changes:
            span.update_name(changes["name"])

    class Model(FakeListChatModel):
        def _generate(self, *args, **kwargs):
            look("chat")
            return super()._generate(*args, **kwargs)

    @tool
    def double(number: int) -> int:
        """Double a number."""
        look("tool")
        return 2 * number

    def node(state):
        look("agent")
        double.invoke({"number": 2})
        Model(responses=["hi"]).invoke("hi")
        return {"messages": [AIMessage("x")]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    agent = graph.compile()

    @app.get("/ask")
    def ask():
        look("server")
        agent.invoke({"messages": ["hi"]})
        look("server, after the agent")

    return app


def masked(span):
    """What is public of `span`, without what differs between two runs."""
    found = read(span)
    assert found["context"] == found["get_span_context"]
    for name in ("context", "get_span_context", "parent"):
        kind, context = found[name]
        found[name] = kind, context and (context.trace_flags, context.is_remote)
    for name in ("start_time", "end_time"):
        found[name] = found[name][0]
    said = json.loads(found["to_json"][1])
    for name in ("parent_id", "start_time", "end_time"):
        said[name] = type(said[name])
    said["context"] = set(said["context"])
    # Older SDKs make another instance id for each provider.
    said["resource"]["attributes"].pop("service.instance.id", None)
    found["to_json"] = said
    found["resource"] = found["resource"][0]
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_current_span_shows_what_the_sdks_would_everywhere():
    found = []
    for curious in (False, True):
        seen = []
        with measuring() as measured:
            if curious:
                measured.installation.providers.tracer_provider.add_span_processor(Curious())
            app = service(seen)
            assert TestClient(app).get("/ask", headers={"traceparent": TRACEPARENT}).is_success
            ended = {span.name for span in measured.spans}
        found.append([(what, shown) for what, _, shown in seen])
        assert [what for what, *_ in seen] == [
            *("server", "agent", "tool", "chat", "server, after the agent")
        ]
        assert {what.partition(" ")[0] for what in ended} == {
            *("GET", "invoke_agent", "execute_tool", "chat")
        }
        for _, span, _ in seen:
            assert isinstance(span, ReadableSpan)
            assert isinstance(span, trace.Span)
            # What was current in a run that has ended is the request's, which has ended as well.
            assert span.name == "GET /ask"
            assert span.end_time > span.start_time
        assert isinstance(seen[1][1], Span) == curious
    assert found[0] == found[1]


def test_where_no_span_is_around_there_is_nothing_to_read():
    seen = []
    graph = StateGraph(MessagesState)
    graph.add_node("node", lambda _: seen.append(trace.get_current_span()))
    graph.add_edge(START, "node")
    with measuring():
        # A run leaves what was current in it behind, which is not for the next test to find.
        contextvars.copy_context().run(graph.compile().invoke, {"messages": ["hi"]})
        (span,) = seen
    # As the API's own span that records nothing, which is what the host finds without us.
    assert isinstance(span, trace.NonRecordingSpan)
    assert not isinstance(span, ReadableSpan)
    with pytest.raises(AttributeError, match="NonRecordingSpan"):
        span.name  # noqa: B018
    assert not hasattr(span, "attributes")
    assert copy.copy(span).get_span_context() == trace.INVALID_SPAN_CONTEXT


# The last word


def test_a_span_that_is_not_sampled_can_be_read_all_the_same():
    ours, _ = both(sampler=ALWAYS_OFF)
    span = ours.start_span("x", Context(), attributes={"a": 1})
    assert not span.is_recording()
    assert (span.name, dict(span.attributes), span.parent) == ("x", {}, None)
