"""What is recorded of an exchange that has ended: by the recorder, many in a row."""

from __future__ import annotations

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
    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from otel_coach.instrumentors.asgi.exchange import Exchange

_MOST_ENDPOINTS: Final = 1000
"""Of which it is remembered that a series exists; an application may make up routes."""
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS, SERVER_ERROR = 401, 403, 429, 500
_REFUSALS: Final = frozenset({_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS})
_LOWEST_STATUS, _HIGHEST_STATUS = 100, 599


def record(exchange: Exchange) -> None:
    """Record all that is known of it."""
    span, context = exchange.span, exchange.context
    if span is not None and not span.is_recording():
        span = context = None
    status, endpoint = exchange.status, exchange.route.template
    code = _code(status, exchange.outcome)
    exchange.recorder.record(
        HTTP_REQUEST_DURATION, exchange.seconds, (endpoint, exchange.method, code), context
    )
    if status in _REFUSALS or endpoint not in exchange.shared.rate_limited:
        _record_refusal(exchange, endpoint, code)
    if exchange.request.is_ai:
        _record_ai_request(exchange, endpoint, context)
    if span is not None:
        _end_span(exchange, span)


def _code(status: int | None, outcome: str) -> str:
    if status is None:
        # Servers answer 500 for an application that ended without a response.
        return str(CLIENT_CLOSED_REQUEST if outcome == ABORTED else SERVER_ERROR)
    return str(status) if _LOWEST_STATUS <= status <= _HIGHEST_STATUS else OTHER


def _record_ai_request(exchange: Exchange, endpoint: str, context: Context | None) -> None:
    request, record, outcome = exchange.request, exchange.recorder.record, exchange.outcome
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


def _end_span(exchange: Exchange, span: Span) -> None:
    attributes = span_facts(exchange, exchange.outcome)
    status: Status | None = None
    if exchange.outcome != ABORTED:
        if exchange.error_type is not None:
            attributes["error.type"] = span_text(exchange.error_type)
            status = Status(StatusCode.ERROR)
        elif exchange.status is None or exchange.status >= SERVER_ERROR:
            attributes["error.type"] = str(exchange.status or SERVER_ERROR)
            status = Status(StatusCode.ERROR)
    end_span(span, exchange.end_time, span_name(exchange), attributes, status)


def span_name(exchange: Exchange) -> str:
    """Of its server span, by the semantic conventions for HTTP."""
    method = "HTTP" if exchange.method == OTHER_METHOD else exchange.method
    route = exchange.route
    return method if route is NO_ROUTE else f"{method} {route.template}"


def span_facts(exchange: Exchange, outcome: str) -> dict[str, AttributeValue]:
    """The attributes of its server span that are known at its end."""
    route = exchange.route
    facts: dict[str, AttributeValue] = {}
    if route is not NO_ROUTE:
        facts["http.route"] = route.template
    if exchange.status is not None:
        facts["http.response.status_code"] = exchange.status
    if outcome == ABORTED:
        facts["otel_coach.outcome"] = ABORTED
    return facts
