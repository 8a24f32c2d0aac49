"""Removes sensitive data from spans before they are exported.

Instrumentations of other packages write raw paths, query strings, hosts, user agents, SQL with
literals and exception texts. Of their spans, only the attributes in `known_scopes.py` are exported.
What the application sets on its own spans is its responsibility, except for exception texts, which
the SDK adds by itself: they may contain prompts, and URLs with passwords. Attributes that carry
content are removed from all spans, otel-coach's own included, unless content is captured. Of a
trace state that a client sent, only OpenTelemetry's own entry is exported.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Status

from otel_coach.core.guard import guarded
from otel_coach.core.known_scopes import (
    ALLOWED_ATTRIBUTES,
    PEOPLE,
    is_content,
    is_instrumentation,
    is_provider,
    may_reveal,
)
from otel_coach.core.spans import StatedName
from otel_coach.metrics.labels import model_text
from otel_coach.sdk.deferred_spans import DeferredTracer
from otel_coach.sdk.provider_spans import ProviderTracer
from otel_coach.sdk.redacted_copies import redacted_copy, without_state
from otel_coach.sdk.resource import without_command_line
from otel_coach.sdk.span_names import safe_event_name, safe_span_name, sql_operation
from otel_coach.sdk.started_spans import StartedSpan, only_sees_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Span
    from opentelemetry.util.types import Attributes

    from otel_coach.metrics.recorder import Recorder

OWN_SCOPE: Final = "otel_coach"
_MESSAGE: Final = "exception.message"
_EXCEPTION_TEXTS: Final = frozenset({_MESSAGE, "exception.stacktrace"})
_STATEMENTS: Final = ("db.query.text", "db.statement")
_PREFIX: Final = re.compile(r"([\w.]{1,100}): ")
"""What the SDK puts before an exception's message: the name of its class."""
_ALLOWED_VALUES: Final[Mapping[str, Callable[[str], bool]]] = {
    "db.operation": lambda value: sql_operation(value) == value.upper(),
    "db.operation.name": lambda value: sql_operation(value) == value.upper(),
    "url.scheme": {"http", "https", "ws", "wss"}.__contains__,
}
"""Attributes that are exported with these values only; a client may claim any scheme."""
_MODELS: Final = frozenset({"gen_ai.request.model", "gen_ai.response.model"})
_OWN_CONTENT: Final = frozenset(
    {
        *("gen_ai.input.messages", "gen_ai.output.messages"),
        *("gen_ai.retrieval.documents", "gen_ai.retrieval.query.text"),
        *("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
    }
)
"""The content that otel-coach itself captures, already redacted and cut."""
_LANGFUSE: Final = "langfuse"
"""A package that sets the attributes in `PEOPLE` on every span of the process, of any scope."""


class Redaction:
    """Decides what of a span is exported.

    Args:
        allowed: attributes that the operator allows beyond `ALLOWED_ATTRIBUTES`.
        captures: whether content may be exported.
        limit: maximum number of characters in each text of content.
        has_redactor: whether the operator has set a redactor. It is applied to the content that
            otel-coach captures, so no other content is exported then.
    """

    def __init__(
        self,
        allowed: Collection[str] = (),
        *,
        captures: bool = False,
        limit: int = 10_000,
        has_redactor: bool = False,
    ) -> None:
        self._allowed = ALLOWED_ATTRIBUTES.union(allowed)
        self._removed_texts = _EXCEPTION_TEXTS.difference(allowed)
        self._people = PEOPLE.difference(allowed)
        self._allowed_by_operator = frozenset(allowed)
        self._captures_own = captures
        self._passes_other_content = captures and not has_redactor
        """Whether content that otel-coach has not captured may be exported."""
        self._limit = limit
        self._suspects = lru_cache(maxsize=1024)(self._find_suspects)

    def applied(self, span: ReadableSpan) -> ReadableSpan:
        """Returns `span`, or a copy of it without what must not be exported."""
        scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
        if is_instrumentation(scope):
            return self._redact_instrumentation_span(span)
        has_state = span.context is not None and bool(span.context.trace_state)
        is_own = scope == OWN_SCOPE
        if (
            # The application may have added events, links and a status to otel-coach's spans, too.
            span.events
            or span.links
            or span.status.description
            or has_state
            or self._suspect_keys(span.attributes)
            or not (is_own or self._removed_texts.isdisjoint(span.attributes or ()))
        ):
            rule = self._redact_own if is_own else self._redact_app
            status = self._status(span.status, span.events)
            return redacted_copy(span, rule, self._redact_app_event, status=status)
        return span

    def _redact_instrumentation_span(self, span: ReadableSpan) -> ReadableSpan:
        attributes = span.attributes or {}
        system = attributes.get("db.system", attributes.get("db.system.name"))
        query = None
        if system is not None:
            from otel_coach.sdk import sql_summary  # noqa: PLC0415 - only with a database

            statement = next((attributes[key] for key in _STATEMENTS if key in attributes), "")
            query = sql_summary.summary(str(statement), str(system))
        return redacted_copy(
            span,
            self._allowed_only,
            self._redact_instrumentation_event,
            name=str(span.name)
            if isinstance(span.name, StatedName)
            else query or safe_span_name(span.name, attributes),
            status=Status(span.status.status_code),
            more={"db.query.summary": query} if query else {},
        )

    def _allowed_only(self, attributes: Attributes) -> Attributes:
        kept: dict[str, Any] = {}
        for key, value in (attributes or {}).items():
            if key in _MODELS:
                kept[key] = value if key in self._allowed_by_operator else model_text(value)
            elif key in self._allowed:
                if key not in _ALLOWED_VALUES or _ALLOWED_VALUES[key](str(value)):
                    kept[key] = value
            elif self._passes_other_content and is_content(key):
                kept[key] = self._cut(value)
        return kept

    def _redact_app(self, attributes: Attributes) -> Attributes:
        """Redacts attributes of the application's spans."""
        if not attributes:
            return attributes
        kept = self._without_suspects(attributes, frozenset()) or {}
        if self._removed_texts.isdisjoint(kept):
            return kept
        return {key: value for key, value in kept.items() if key not in self._removed_texts}

    def _redact_own(self, attributes: Attributes) -> Attributes:
        captured = _OWN_CONTENT if self._captures_own else frozenset[str]()
        return self._without_suspects(attributes, captured)

    def _without_suspects(self, attributes: Attributes, captured: frozenset[str]) -> Attributes:
        suspects = self._suspect_keys(attributes)
        if not attributes or not suspects:
            return attributes
        kept: dict[str, Any] = {}
        for key, value in attributes.items():
            if key not in suspects or key in captured:
                kept[key] = value
            elif key not in self._people and isinstance(value, bool | int | float):
                kept[key] = value  # a number reveals nothing
            elif self._passes_other_content and is_content(key):
                kept[key] = self._cut(value)
        return kept

    def _suspect_keys(self, attributes: Attributes) -> frozenset[str]:
        """Returns the keys whose values may have to be removed."""
        return self._suspects(tuple(attributes or ()), _LANGFUSE in sys.modules)

    def _find_suspects(self, keys: tuple[str, ...], with_people: bool) -> frozenset[str]:  # noqa: FBT001 - part of the cache's key
        return frozenset(
            key
            for key in keys
            if key not in self._allowed_by_operator
            and (may_reveal(key) or (with_people and key in self._people))
        )

    def _redact_app_event(self, event: Event) -> Event:
        """Redacts an event that the application has added."""
        return Event(event.name, self._redact_event(event, self._redact_app), event.timestamp)

    def _redact_event(self, event: Event, rule: Callable[[Attributes], Attributes]) -> Attributes:
        """Applies `rule`; if the event's name stands for content, treats all attributes as such."""
        if not may_reveal(event.name):
            return rule(event.attributes)
        if self._passes_other_content and is_content(event.name):
            return {key: self._cut(value) for key, value in (event.attributes or {}).items()}
        return self._allowed_only(event.attributes)

    def _redact_instrumentation_event(self, event: Event) -> Event:
        name = safe_event_name(event.name)
        return Event(name, self._redact_event(event, self._allowed_only), event.timestamp)

    def _cut(self, value: Any) -> Any:
        if isinstance(value, str):
            return value[: self._limit]
        if isinstance(value, tuple | list):
            return tuple(self._cut(item) for item in value)
        return value

    def _status(self, status: Status, events: Sequence[Event]) -> Status:
        """Removes an exception's message, which the SDK writes after the name of its class.

        Other texts that the application gives stay, unless they begin like that.
        """
        if _MESSAGE not in self._removed_texts or status.description is None:
            return status
        found = _PREFIX.match(status.description)
        is_text_of_exception = found is not None and _is_class(found[1], events)
        return Status(status.status_code, found[1]) if found and is_text_of_exception else status


def _is_class(name: str, events: Sequence[Event]) -> bool:
    """Whether `name` is that of an exception's class: by its capital, or by an event."""
    last = name.rpartition(".")[2]
    kinds = (str((event.attributes or {}).get("exception.type", "")) for event in events)
    return last.lstrip("_")[:1].isupper() or any(kind.rpartition(".")[2] == last for kind in kinds)


class RedactingSpanProcessor(SpanProcessor):
    """Passes redacted spans to `processor`.

    A span that cannot be redacted is dropped, and counted as a fault.
    """

    def __init__(self, processor: SpanProcessor, redaction: Redaction, recorder: Recorder) -> None:
        self._processor = processor
        self._redaction = redaction
        self.recorder = recorder
        self.has_spans = False
        self.sees_starts = not only_sees_ends(processor)
        """Whether the processor reads spans before they end."""

    @guarded
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Lets the wrapped processor set attributes, and read what may be exported."""
        if self.sees_starts:
            self._processor.on_start(self._started_span(span), parent_context)

    @guarded
    def _on_ending(self, span: Span) -> None:
        """Like `on_start`, just before the end; not public yet, but a processor may have it."""
        on_ending = getattr(self._processor, "_on_ending", None)
        if self.sees_starts and on_ending is not None:
            on_ending(self._started_span(span))

    def _started_span(self, span: Span) -> Span:
        return cast("Span", StartedSpan(span, self._redacted))

    def _redacted(self, span: ReadableSpan) -> ReadableSpan:
        """Returns the redacted span; if that fails, a span with its ids and its resource only."""
        bare = ReadableSpan("span", without_state(span.context), resource=span.resource)
        return self._applied(span) or bare

    @guarded
    def _applied(self, span: ReadableSpan) -> ReadableSpan:
        return self._redaction.applied(span)

    @guarded
    def on_end(self, span: ReadableSpan) -> None:
        """Redacts an ended span and passes it on."""
        self.has_spans = True
        self._processor.on_end(self._redaction.applied(span))

    def shutdown(self) -> None:
        """Shuts the wrapped processor down."""
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flushes the wrapped processor. The SDK's own batch processor ignores `timeout_millis`."""
        return self._processor.force_flush(timeout_millis)


class RedactingTracerProvider(TracerProvider):
    """A TracerProvider whose processors, also those of the application, get redacted spans."""

    def __init__(self, redaction: Redaction, recorder: Recorder, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._redaction = redaction
        self.recorder = recorder
        self._redacting_processors: list[RedactingSpanProcessor] = []
        self.sees_starts = False
        """Whether any processor reads spans before they end."""

    @property
    def has_spans(self) -> bool:
        """Whether a span has ended in this process."""
        return any(processor.has_spans for processor in self._redacting_processors)

    def forget_spans(self) -> None:
        """Called after a fork: spans of the parent do not count for this process."""
        for processor in self._redacting_processors:
            processor.has_spans = False

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Exports all spans that have ended, also those that wait in the recorder."""
        self.recorder.flush_all(0)  # which ends spans, and waits for no collection of metrics
        return super().force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Exports all spans that have ended, and stops the processors."""
        self.recorder.flush_all(0)
        super().shutdown()

    def _update_resource(self, resource: Resource) -> None:
        # The SDK detects parts of the resource again after a fork.
        super()._update_resource(without_command_line(resource))

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Returns the SDK's tracer; a `DeferredTracer` or a `ProviderTracer` for some scopes."""
        tracer = super().get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        if is_provider(instrumenting_module_name):
            return cast("trace.Tracer", ProviderTracer(tracer))
        if instrumenting_module_name != OWN_SCOPE or not isinstance(tracer, Tracer):
            return tracer
        version = instrumenting_library_version
        scope = InstrumentationScope(OWN_SCOPE, version, schema_url, attributes)
        return DeferredTracer(self, scope, tracer)

    def on_end(self, span: ReadableSpan) -> None:
        """Passes an ended span of a `DeferredTracer` to all processors."""
        for processor in self._redacting_processors:
            processor.on_end(span)

    @guarded
    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Adds `span_processor`, which gets redacted spans only."""
        redacting = RedactingSpanProcessor(span_processor, self._redaction, self.recorder)
        self._redacting_processors.append(redacting)
        self.sees_starts = self.sees_starts or redacting.sees_starts
        super().add_span_processor(redacting)
