"""Ends server spans, by the semantic conventions for HTTP.

Nothing here refers to the exchange: data in the recorder's queue must not keep a scope, and all
objects that it refers to, alive, which would keep the garbage collector busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.trace import Status, StatusCode

from otel_coach.core.spans import Renaming, end_span
from otel_coach.instrumentors.asgi.routes import NO_ROUTE
from otel_coach.metrics.labels import ABORTED, OTHER_METHOD, span_text

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from otel_coach.instrumentors.asgi.routes import Route

SERVER_ERROR: Final = 500


class Answered(NamedTuple):
    """A request and its outcome, as known at its end."""

    time_ns: int
    """Nanoseconds since the epoch."""
    method: str
    route: Route
    code: int | None
    outcome: str
    error_type: str | None
    """Name of the exception that ended the request."""


def end_server_span(span: Span, answered: Answered) -> None:
    """Ends `span`; called by the recorder when it flushes."""
    if not span.is_recording():
        return
    end_time, method, route, code, outcome, error_type = answered
    attributes = end_attributes(route, code, outcome)
    status: Status | None = None
    if outcome != ABORTED:
        if error_type is not None:
            attributes["error.type"] = span_text(error_type)
            status = Status(StatusCode.ERROR)
        elif code is None or code >= SERVER_ERROR:
            attributes["error.type"] = str(code or SERVER_ERROR)
            status = Status(StatusCode.ERROR)
    name = Renaming(method, span_name(method, route))
    end_span(span, end_time, name, attributes, status)


def end_turn_span(span: Span, answered: Answered) -> None:
    """Ends the span of a WebSocket's turn; called by the recorder when it flushes."""
    attributes: dict[str, AttributeValue] = {}
    status: Status | None = None
    if answered.outcome == ABORTED:
        attributes["otel_coach.outcome"] = ABORTED
    elif answered.error_type is not None:
        attributes["error.type"] = span_text(answered.error_type)
        status = Status(StatusCode.ERROR)
    end_span(span, answered.time_ns, None, attributes, status)


def span_name(method: str, route: Route) -> str:
    """Returns the name of a server span."""
    method = "HTTP" if method == OTHER_METHOD else method
    return method if route is NO_ROUTE else f"{method} {route.template}"


def end_attributes(route: Route, code: int | None, outcome: str) -> dict[str, AttributeValue]:
    """Returns the attributes that are known when a server span ends."""
    attributes: dict[str, AttributeValue] = {}
    if route is not NO_ROUTE:
        attributes["http.route"] = route.template
    if code is not None:
        attributes["http.response.status_code"] = code
    if outcome == ABORTED:
        attributes["otel_coach.outcome"] = ABORTED
    return attributes
