"""What spans may carry of exceptions, and of what the application adds to otel-coach's."""

from contextlib import suppress

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.trace import (
    SpanContext,
    Status,
    StatusCode,
    TraceState,
)

from otel_coach.testing import measuring


def tracer(measured, scope):
    return measured.installation.providers.tracer_provider.get_tracer(scope)


def test_what_the_application_adds_to_spans_of_ours_is_redacted_like_its_own():
    state = TraceState([("vendor", "secret"), ("ot", "th:8")])
    linked = SpanContext(1, 1, is_remote=True, trace_state=state)
    with measuring() as measured:
        span = tracer(measured, "otel_coach").start_span("ours")
        span.record_exception(ValueError("secret"))
        span.set_status(Status(StatusCode.ERROR, "ValueError: secret"))
        span.add_link(linked)
        span.end()
        (found,) = measured.spans
    assert "secret" not in found.to_json()
    assert found.events[0].attributes["exception.type"] == "ValueError"
    assert (found.status.status_code, found.status.description) == (StatusCode.ERROR, "ValueError")
    assert found.links[0].context.trace_state.get("ot") == "th:8"


def test_an_exception_that_a_route_records_on_the_server_span_is_redacted(measured):
    app = FastAPI()

    @app.get("/x")
    def route():
        trace.get_current_span().record_exception(ValueError("secret"))

    TestClient(app).get("/x")
    assert [event.name for span in measured.spans for event in span.events] == ["exception"]
    assert not any("secret" in span.to_json() for span in measured.spans)


@pytest.mark.parametrize("has_event", [True, False])
def test_the_text_of_an_exception_leaves_as_no_attribute_either(measured, has_event):
    span = tracer(measured, "the-application").start_span("work")
    span.set_attributes({"exception.message": "secret", "a": 1})
    if has_event:
        span.add_event("seen")
    span.end()
    assert measured.spans[-1].attributes == {"a": 1}


@pytest.mark.parametrize("name", ["_InactiveRpcError", "gaierror", "error_perm"])
def test_the_text_of_an_exception_leaves_as_no_status_whatever_its_class_is_called(measured, name):
    kind = type(name, (Exception,), {"__module__": "somewhere.else"})
    with (
        suppress(kind),
        tracer(measured, "the-application").start_as_current_span("work"),
    ):
        raise kind("secret")
    (span,) = measured.spans
    assert span.status.description == name
    assert "secret" not in span.to_json()
