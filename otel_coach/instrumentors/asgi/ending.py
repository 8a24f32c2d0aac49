"""What is recorded of an exchange that has ended.

What waits for the recorder holds nothing of the exchange: its scope and all that hangs on it would
keep the garbage collector busy.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Status, StatusCode

from otel_coach.catalogue import (
    AI_REQUEST_DURATION,
    AI_STREAM_ABORTS,
    AI_STREAM_CHUNKS,
    AI_TIME_TO_FIRST_CHUNK,
    AUTH_FAILURES,
    HTTP_REQUEST_DURATION,
    RATE_LIMIT_HITS,
)
from otel_coach.instrumentors.asgi.refusals import refusal_reason
from otel_coach.instrumentors.asgi.routes import NO_ROUTE
from otel_coach.tracing import end_span
from otel_coach.vocabulary import (
    ABORTED,
    CLIENT_CLOSED_REQUEST,
    INVOKE,
    NO_MODEL,
    OTHER,
    OTHER_METHOD,
    STREAM,
    span_text,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from otel_coach.instrumentors.asgi.exchange import Exchange
    from otel_coach.instrumentors.asgi.routes import Route

_MOST_ENDPOINTS: Final = 1000
"""Of which it is remembered that a series exists; an application may make up routes."""
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS, SERVER_ERROR = 401, 403, 429, 500
_REFUSALS: Final = frozenset({_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS})
_LOWEST_STATUS, _HIGHEST_STATUS = 100, 599


def record(exchange: Exchange) -> None:
    """Record all that is known of it, and end its span."""
    status, endpoint, recorder = exchange.status, exchange.route.template, exchange.recorder
    code = _code(status, exchange.outcome)
    recorder.record(
        HTTP_REQUEST_DURATION,
        exchange.seconds,
        (endpoint, exchange.method, code),
        exchange.context,
    )
    if status in _REFUSALS or endpoint not in exchange.shared.rate_limited:
        _record_refusal(exchange, endpoint, code)
    if exchange.request.is_ai:
        _record_ai_request(exchange, endpoint)
    if exchange.span is not None:
        recorder.later(
            partial(
                _end_span,
                exchange.span,
                exchange.end_time,
                exchange.method,
                exchange.route,
                status,
                exchange.outcome,
                exchange.error_type,
            )
        )


def _code(status: int | None, outcome: str) -> str:
    if status is None:
        # Servers answer 500 for an application that ended without a response.
        return str(CLIENT_CLOSED_REQUEST if outcome == ABORTED else SERVER_ERROR)
    return str(status) if _LOWEST_STATUS <= status <= _HIGHEST_STATUS else OTHER


def _record_ai_request(exchange: Exchange, endpoint: str) -> None:
    request, record, outcome = exchange.request, exchange.recorder.record, exchange.outcome
    context = exchange.context
    mode = request.mode or (STREAM if exchange.is_stream else INVOKE)
    labels = (endpoint, request.model or NO_MODEL, mode)
    record(AI_REQUEST_DURATION, exchange.seconds, (*labels, outcome), context)
    if not exchange.is_stream:
        return
    streaming = exchange.shared.streaming
    if len(streaming) < _MOST_ENDPOINTS:
        streaming.add(endpoint)
    record(AI_STREAM_CHUNKS, exchange.chunks, (*labels, outcome), context)
    # Also with 0: an alert's rate() needs the series before the first abort.
    record(AI_STREAM_ABORTS, int(outcome == ABORTED), (*labels, ABORTED), context)
    if exchange.first_chunk is not None:
        record(AI_TIME_TO_FIRST_CHUNK, exchange.first_chunk - exchange.started, labels, context)


def _record_refusal(exchange: Exchange, endpoint: str, code: str) -> None:
    status, shared, record = exchange.status, exchange.shared, exchange.recorder.record
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        reason = refusal_reason(
            exchange.scope, exchange.headers, shared.credential_headers, exchange.dependant()
        )
        record(AUTH_FAILURES, 1, (endpoint, exchange.method, code, reason))
    limited = status == _TOO_MANY_REQUESTS
    known = shared.rate_limited
    is_new = endpoint not in known and len(known) < _MOST_ENDPOINTS
    if is_new:
        known.add(endpoint)
    if limited or is_new:
        record(RATE_LIMIT_HITS, int(limited), (endpoint,))


def _end_span(  # noqa: PLR0913, PLR0917 - what is known, without its exchange
    span: Span,
    end_time: int,
    method: str,
    route: Route,
    code: int | None,
    outcome: str,
    error_type: str | None,
) -> None:
    """Made by the recorder, at a safe moment."""
    if not span.is_recording():
        return
    attributes = span_facts(route, code, outcome)
    status: Status | None = None
    if outcome != ABORTED:
        if error_type is not None:
            attributes["error.type"] = span_text(error_type)
            status = Status(StatusCode.ERROR)
        elif code is None or code >= SERVER_ERROR:
            attributes["error.type"] = str(code or SERVER_ERROR)
            status = Status(StatusCode.ERROR)
    end_span(span, end_time, span_name(method, route), attributes, status)


def span_name(method: str, route: Route) -> str:
    """Of a server span, by the semantic conventions for HTTP."""
    method = "HTTP" if method == OTHER_METHOD else method
    return method if route is NO_ROUTE else f"{method} {route.template}"


def span_facts(route: Route, code: int | None, outcome: str) -> dict[str, AttributeValue]:
    """The attributes of a server span that are known at its end."""
    facts: dict[str, AttributeValue] = {}
    if route is not NO_ROUTE:
        facts["http.route"] = route.template
    if code is not None:
        facts["http.response.status_code"] = code
    if outcome == ABORTED:
        facts["otel_coach.outcome"] = ABORTED
    return facts
