"""What the spans of stock instrumentations may carry.

They write raw paths, query strings, hosts, user agents, SQL with literals and exception texts.
Their spans leave the process with the attributes named here and no others; the spans that the
application makes itself are its own affair, and ours are built clean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.trace import Link, Status

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span
    from opentelemetry.util.types import Attributes

_STOCK_PREFIX: Final = "opentelemetry.instrumentation."
_FASTAPI: Final = "fastapi"
"""The scope of FastAPI's built-in telemetry."""

ALLOWED_ATTRIBUTES: Final = frozenset(
    {
        "db.collection.name",
        "db.operation",
        "db.operation.name",
        "db.system",
        "db.system.name",
        "error.type",
        "exception.type",
        "http.method",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "http.status_code",
        "messaging.operation.name",
        "messaging.system",
        "network.protocol.name",
        "network.protocol.version",
        "otel_coach.outcome",
        "rpc.method",
        "rpc.service",
        "rpc.system",
        "url.scheme",
    }
)


class RedactingSpanProcessor(SpanProcessor):
    """Hands spans on to `processor`, those of stock instrumentations in a cleaned copy."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tell the processor behind."""
        self._processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Clean and hand on."""
        scope = span.instrumentation_scope
        if scope is not None and (scope.name.startswith(_STOCK_PREFIX) or scope.name == _FASTAPI):
            span = cleaned(span)
        self._processor.on_end(span)

    def shutdown(self) -> None:
        """Shut the processor behind down."""
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the processor behind; at most `timeout_millis` ms."""
        return self._processor.force_flush(timeout_millis)


def cleaned(span: ReadableSpan) -> ReadableSpan:
    """A copy of `span` without free text: allowed attributes, no messages, no trace state."""
    return ReadableSpan(
        name=_first_word_of_sql(span),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_allowed(span.attributes),
        events=[
            Event(event.name, _allowed(event.attributes), event.timestamp) for event in span.events
        ],
        links=[Link(link.context, _allowed(link.attributes)) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _allowed(attributes: Attributes) -> Attributes:
    return {key: value for key, value in (attributes or {}).items() if key in ALLOWED_ATTRIBUTES}


def _first_word_of_sql(span: ReadableSpan) -> str:
    # dbapi instrumentations name a span by the statement's first word, or the database.
    attributes = span.attributes or {}
    if "db.system" in attributes or "db.system.name" in attributes:
        word = span.name.split(maxsplit=1)[0].upper() if span.name.strip() else ""
        return word if word.isalpha() else str(attributes.get("db.system", "db"))
    return span.name
