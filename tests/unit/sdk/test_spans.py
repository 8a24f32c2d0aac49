"""Our spans, put together at their end, beside the SDK's own: told the same, they are the same."""

import enum

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_coach.metrics.recorder import Recorder
from otel_coach.sdk.deferred_spans import DeferredSpan
from otel_coach.sdk.redaction import RedactingTracerProvider, Redaction

PARENT = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState())
UNSAMPLED = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(0))
LINKED = SpanContext(3, 4, is_remote=False)


class Mode(enum.StrEnum):
    PLAN = "plan"


def tracers(**options):
    """Our tracer and the SDK's, each with what they exported."""
    redaction = Redaction({"exception.message", "exception.stacktrace"})  # test_redaction.py
    ours = RedactingTracerProvider(redaction, Recorder(NoOpMeter("test")), **options)
    theirs = TracerProvider(**options)
    for provider in (ours, theirs):
        exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        yield provider.get_tracer("otel_coach", "1"), exporter


def facts(span):
    """All that leaves, but for what differs between two runs."""
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "events": [
            (e.name, {k: v for k, v in e.attributes.items() if k != "exception.stacktrace"})
            for e in span.events
        ],
        "links": [(one.context, dict(one.attributes)) for one in span.links],
        "status": (span.status.status_code, span.status.description),
        "parent": span.parent,
        "times": (span.start_time, span.end_time),
        "flags": (span.context.trace_flags & 1, span.context.is_remote),
        "scope": (span.instrumentation_scope.name, span.instrumentation_scope.version),
        "resource": set(span.resource.attributes),
    }


def plain(tracer):
    span = tracer.start_span("GET", kind=SpanKind.SERVER, attributes={"a": 1}, start_time=10)
    span.set_attributes({"b": "two", "c": 3.5, "d": True, "reasons": ("stop",)})
    span.update_name("GET /ask")
    span.end(20)


def failed(tracer):
    span = tracer.start_span("x", context=Context(), start_time=1)
    span.set_status(Status(StatusCode.ERROR))
    span.set_status(StatusCode.UNSET)
    span.end(2)


def fine_after_all(tracer):
    span = tracer.start_span("x", start_time=1)
    span.set_status(StatusCode.ERROR, "no")
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "late")
    span.end(2)


def of_the_application(tracer):
    span = tracer.start_span("x", start_time=1, links=[Link(LINKED, {"l": 1})])
    span.set_attribute("list", ["a", "b"])
    span.set_attribute("mixed", ["a", 1, None])
    span.set_attribute("enum", Mode.PLAN)
    span.set_attribute("bytes", b"bytes")
    span.set_attribute("", "no name")
    span.set_attribute(7, "no name")
    span.set_attribute("object", object())
    span.add_event("seen", {"k": [1, 2]}, 5)
    span.add_link(LINKED, {"m": "n"})
    span.add_link(SpanContext(0, 0, is_remote=False))
    span.add_link(None)
    span.record_exception(ValueError("what"), {"more": 1}, 6)
    span.end(2)
    span.set_attribute("late", 1)
    span.end(3)


def many(tracer):
    span = tracer.start_span("x", start_time=1)
    for number in range(300):
        span.set_attribute(f"a{number}", number)
        span.add_event(f"e{number}", {f"k{key}": 1 for key in range(3)}, number)
        span.add_link(LINKED, {"n": number})
    span.set_attribute("long", "x" * 1000)
    span.end(2)


def inside(tracer):
    context = set_span_in_context(trace.NonRecordingSpan(PARENT), Context())
    tracer.start_span("x", context=context, start_time=1).end(2)


STORIES = (plain, failed, fine_after_all, of_the_application, many, inside)


@pytest.mark.parametrize("story", STORIES)
def test_what_leaves_is_what_the_sdk_would_have_made(story):
    found = []
    for tracer, exporter in tracers():
        story(tracer)
        (span,) = exporter.get_finished_spans()
        found.append(facts(span))
    assert found[0] == found[1]


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(
    "variable",
    [
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=2",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=3",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT=3",
        "OTEL_SPAN_EVENT_COUNT_LIMIT=1",
        "OTEL_SPAN_LINK_COUNT_LIMIT=1",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT=1",
    ],
)
def test_the_operators_limits_hold(story, variable, monkeypatch):
    monkeypatch.setenv(*variable.split("="))
    test_what_leaves_is_what_the_sdk_would_have_made(story)


@pytest.mark.parametrize("parent", [None, PARENT, UNSAMPLED])
@pytest.mark.parametrize(
    "sampler", [None, ALWAYS_OFF, ParentBased(ALWAYS_OFF), TraceIdRatioBased(0)]
)
def test_the_sampler_decides_as_for_the_sdks_spans(sampler, parent):
    context = Context()
    if parent is not None:
        context = set_span_in_context(trace.NonRecordingSpan(parent), context)
    found = []
    for tracer, exporter in tracers(sampler=sampler):
        span = tracer.start_span("x", context=context)
        own = span.get_span_context()
        span.end()
        recorded = len(exporter.get_finished_spans())
        flags = own.trace_flags if parent else own.trace_flags & 1
        found.append((span.is_recording(), flags, own.is_valid, own.trace_state, recorded))
        if parent is not None:
            assert own.trace_id == parent.trace_id
    assert found[0] == found[1]


def test_ids_are_random_and_said_to_be():
    (ours, _), (theirs, _) = tracers()
    contexts = [ours.start_span("x").get_span_context() for _ in range(100)]
    assert len({one.trace_id for one in contexts}) == 100
    assert len({one.span_id for one in contexts}) == 100
    assert contexts[0].trace_flags == theirs.start_span("x").get_span_context().trace_flags


def test_who_looks_at_spans_from_their_start_gets_the_sdks():
    class Curious(SpanProcessor):
        def on_start(self, span, parent_context=None):
            span.set_attribute("seen", span.name)

    (tracer, exporter), _ = tracers()
    assert isinstance(tracer.start_span("x"), DeferredSpan)
    tracer.provider.add_span_processor(Curious())
    tracer.start_span("x").end()
    (span,) = exporter.get_finished_spans()
    assert span.attributes == {"seen": "x"}


def test_an_applications_own_spans_are_the_sdks():
    (ours, _), _ = tracers()
    assert not isinstance(ours.provider.get_tracer("app").start_span("x"), DeferredSpan)
