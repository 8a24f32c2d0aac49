"""Spans as OTLP: whatever they hold, the message is the one that OpenTelemetry's encoder makes."""

import logging
import random
import sys
from functools import partial
from http import HTTPStatus
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from otel_coach.sdk import otlp_encoder, otlp_trial

RESOURCES = [Resource({"service.name": "coach", "ports": [1, 2]}), Resource({}, "https://schema")]
SCOPES = [
    None,
    InstrumentationScope("otel_coach", "1", "https://schema", {"a": 1}),
    InstrumentationScope("app"),
]
IDS = st.integers(1, 2**64 - 1)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
# Many texts, few of them: what is kept of one span must be right for the next.
TEXTS = st.sampled_from(["", "GET", "/ask", "é" * 40, "x" * 5000]) | st.text(max_size=5)
KEYS = st.sampled_from(["http.route", "n", "flag", "é", "long" * 50])
SCALARS = st.one_of(
    TEXTS,
    NUMBERS,
    st.sampled_from([0, 1, True, False, 1.0, -0.0, 0.0, 200]),
    st.floats(),
    st.none(),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.lists(TEXTS, max_size=3).map(tuple), st.binary()
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=4)
STATES = st.sampled_from([TraceState(), TraceState([("ot", "th:8")])])
CONTEXTS = st.builds(
    SpanContext, IDS, IDS, st.booleans(), st.sampled_from(list(map(TraceFlags, range(4)))), STATES
)
SPANS = st.builds(
    ReadableSpan,
    TEXTS,
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    resource=st.sampled_from(RESOURCES),
    attributes=st.none()
    | ATTRIBUTES
    | ATTRIBUTES.map(lambda given: BoundedAttributes(2, given, immutable=False)),
    events=st.just(()) | st.lists(st.builds(Event, TEXTS, ATTRIBUTES, IDS), max_size=2),
    links=st.just(()) | st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2),
    kind=st.sampled_from(SpanKind),
    status=st.builds(Status, st.sampled_from(StatusCode), st.none() | TEXTS),
    start_time=IDS,
    end_time=IDS,
    instrumentation_scope=st.sampled_from(SCOPES),
)


class Faults(list):
    """What counts them."""

    def fault(self, fault, _place):
        self.append(fault)


@pytest.fixture(scope="module")
def encoder():
    """One for all examples, so that what it keeps is used."""
    encoder = otlp_encoder.Encoder(Faults())
    yield encoder
    assert encoder.recorder == []


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """OpenTelemetry's encoder writes a traceback for each value that it cannot encode."""
    caplog.set_level(logging.CRITICAL, "opentelemetry")


def encoded_by(encoder, spans):
    return ExportTraceServiceRequest.FromString(encoder.encode_spans(spans))


def by_source(request):
    """Each span, with its resource and its scope, in an order of its own."""
    return sorted(
        (repr((of.resource, of.schema_url)), repr((scope.scope, scope.schema_url)), repr(span))
        for of in request.resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    )


@given(spans=st.lists(SPANS, max_size=6))
def test_the_message_is_that_of_opentelemetrys_encoder(encoder, spans):
    ours, theirs = encoded_by(encoder, spans), encode_spans(spans)
    assert by_source(ours) == by_source(theirs)
    assert len(ours.SerializeToString()) == len(theirs.SerializeToString())
    assert len(ours.resource_spans) == len(theirs.resource_spans)


def test_what_is_kept_is_bounded(encoder):
    def of(number, value):
        context = SpanContext(1, 1, is_remote=False)
        attributes = {"user": value}
        return ReadableSpan(f"{number}", context, attributes=attributes, resource=RESOURCES[0])

    spans = [of(n, f"{random.random()} {n}") for n in range(5000)]
    spans += [of(n, "x" * 10_000) for n in range(100)]
    assert by_source(encoded_by(encoder, spans)) == by_source(encode_spans(spans))
    kept = [*encoder._attributes.items(), *encoder._heads.items()]
    assert len(kept) <= 4000
    assert max(len(encoded) for _, encoded in kept) <= 100


SPAN = ReadableSpan("x", SpanContext(1, 1, is_remote=False), resource=RESOURCES[0])


@pytest.mark.parametrize(
    "values", [[(1,), (True,), (1.0,)], [(0.0,), (-0.0,)], [0.0, -0.0], [1, True, 1.0]]
)
def test_equal_values_are_not_taken_for_one_another(encoder, values):
    for value in values:
        spans = [ReadableSpan("x", SPAN.context, attributes={"n": value}, resource=RESOURCES[0])]
        assert encoded_by(encoder, spans) == encode_spans(spans)


def test_a_resource_or_scope_that_is_unusual_is_left_to_opentelemetrys_encoder(encoder):
    for resource, scope in (
        (Resource({"x": HTTPStatus.OK}), None),
        (RESOURCES[0], InstrumentationScope("app", attributes={"x": HTTPStatus.OK})),
    ):
        span = ReadableSpan("x", SPAN.context, resource=resource, instrumentation_scope=scope)
        assert encoder.encode_spans([span]) is None
        assert encoder.around_http(encode_spans)([span]) == encode_spans([span])


def test_both_exporters_encode_with_it_and_get_their_own_back():
    undo = otlp_encoder.encode_with(Faults())
    theirs = encode_spans([SPAN])
    assert type(http.encode_spans([SPAN])) is otlp_encoder.EncodedRequest
    encoded = http.encode_spans([SPAN]).SerializePartialToString()
    assert encoded == http.encode_spans([SPAN]).SerializeToString()
    assert ExportTraceServiceRequest.FromString(encoded) == theirs
    assert http.encode_spans([SPAN]).resource_spans == theirs.resource_spans
    assert grpc.encode_spans([SPAN]) == theirs
    for one in undo:
        one()
    assert http.encode_spans is grpc.encode_spans is encode_spans


def test_where_it_fails_the_exporter_encodes_as_ever(monkeypatch):
    monkeypatch.setattr(otlp_encoder.Encoder, "_encoded", lambda *_: 1 / 0)
    encoder = otlp_encoder.Encoder(Faults())
    assert encoder.around_http(encode_spans)([SPAN]) == encode_spans([SPAN])
    assert encoder.around_grpc(encode_spans)([SPAN]) == encode_spans([SPAN])
    assert [type(fault) for fault in encoder.recorder] == [ZeroDivisionError] * 2


def test_another_packages_encoder_is_left_alone(monkeypatch):
    monkeypatch.setattr(http, "encode_spans", http.encode_spans.__call__)
    monkeypatch.setattr(grpc, "encode_spans", grpc.encode_spans.__call__)
    assert otlp_encoder.encode_with(Faults()) == []


def test_the_trial_sees_another_result(monkeypatch):
    assert otlp_trial.encodes_alike()

    def with_more(spans):
        message = encode_spans(spans)
        message.resource_spans[0].scope_spans[0].spans[0].trace_state = "more"
        return message

    monkeypatch.setattr(otlp_trial, "encode_spans", with_more)
    assert not otlp_trial.encodes_alike()


def test_an_exporter_that_needs_more_of_the_encoder_gets_it(monkeypatch):
    monkeypatch.delitem(sys.modules, otlp_encoder._THEIRS)

    def load():
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import __all__

        return __all__

    assert otlp_encoder.imported_without_protobuf(load) == ["encode_spans"]
    assert sys.modules[otlp_encoder._THEIRS].__file__
    monkeypatch.delitem(sys.modules, otlp_encoder._THEIRS)
    with pytest.raises(ImportError):
        otlp_encoder.imported_without_protobuf(partial(import_module, "otel_coach.there_is_none"))
    assert otlp_encoder._THEIRS not in sys.modules
