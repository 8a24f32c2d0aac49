"""How a server span ends, by the semantic conventions for HTTP.

It knows nothing of the exchange: what waits for the recorder must not hold a scope and all that
hangs on it, which would keep the garbage collector busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.trace import Status, StatusCode

from otel_coach.instrumentors.asgi.routes import NO_ROUTE
from otel_coach.tracing import Renaming, end_span
from otel_coach.vocabulary import ABORTED, OTHER_METHOD, span_text

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from otel_coach.instrumentors.asgi.routes import Route

SERVER_ERROR: Final = 500


class Answered(NamedTuple):
    """What is known of a request at its end."""

    time_ns: int
    """Since the epoch."""
    method: str
    route: Route
    code: int | None
    outcome: str
    error_type: str | None
    """Of the exception that ended it."""


def end_server_span(span: Span, answered: Answered) -> None:
    """End `span`; called by the recorder, at a safe moment."""
    if not span.is_recording():
        return
    end_time, method, route, code, outcome, error_type = answered
    attributes = span_facts(route, code, outcome)
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


def span_name(method: str, route: Route) -> str:
    """The span's name."""
    method = "HTTP" if method == OTHER_METHOD else method
    return method if route is NO_ROUTE else f"{method} {route.template}"


def span_facts(route: Route, code: int | None, outcome: str) -> dict[str, AttributeValue]:
    """The attributes that are known at its end."""
    facts: dict[str, AttributeValue] = {}
    if route is not NO_ROUTE:
        facts["http.route"] = route.template
    if code is not None:
        facts["http.response.status_code"] = code
    if outcome == ABORTED:
        facts["otel_coach.outcome"] = ABORTED
    return facts
