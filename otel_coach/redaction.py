"""What leaves the process in spans that are not ours.

Stock instrumentations write raw paths, query strings, hosts, user agents, SQL with literals and
exception texts: their spans leave with the attributes named in `known_scopes.py` and no others.
What an application sets on spans of its own is its affair, but for the texts of exceptions, which
the SDK writes there without being asked: they repeat prompts, and addresses with passwords. Keys by
which content travels are left out whoever made the span, ours among them, unless content is
captured. Of a trace state that a client sent, only OpenTelemetry's own part leaves.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, TraceState

from otel_coach import sql
from otel_coach.guards import guarded
from otel_coach.known_scopes import (
    ALLOWED_ATTRIBUTES,
    PEOPLE,
    is_instrumentation,
    is_provider,
    is_said,
    may_tell,
)
from otel_coach.provider_spans import ProviderTracer
from otel_coach.resource import without_secrets
from otel_coach.spans import TracerAtOnce
from otel_coach.started_spans import StartedSpan, only_sees_ends
from otel_coach.tracing import StatedName
from otel_coach.vocabulary import is_address, model_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Span
    from opentelemetry.util.types import Attributes

    from otel_coach.recorder import Recorder

OURS: Final = "otel_coach"
_TEXTS: Final = frozenset({"exception.message", "exception.stacktrace"})
_STATEMENTS: Final = ("db.query.text", "db.statement")
_CLASS: Final = re.compile(r"([\w.]{1,100}): ")
_NAME: Final = re.compile(r"[\w.:-]{1,60}( [\w.:-]{1,60})?")
_ONLY: Final[Mapping[str, Callable[[str], bool]]] = {
    "db.operation": lambda value: sql.operation(value) == value.upper(),
    "db.operation.name": lambda value: sql.operation(value) == value.upper(),
    "url.scheme": {"http", "https", "ws", "wss"}.__contains__,
}
"""Attributes that leave with such values only; a client may forward any scheme."""
_MODELS: Final = frozenset({"gen_ai.request.model", "gen_ai.response.model"})
_OUR_CONTENT: Final = frozenset(
    {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
    }
)
"""What we capture ourselves, redacted and cut already."""
_TELLS_OF_PEOPLE: Final = "langfuse"
"""A package that writes `PEOPLE` on every span of the process, of whatever scope."""
_OPENTELEMETRY_STATE: Final = re.compile(
    r"[a-z]{1,4}:[0-9a-f.]{1,20}(;[a-z]{1,4}:[0-9a-f.]{1,20})*"
)


class Redaction:
    """The rule.

    Args:
        allowed: attributes that the operator allows beyond `ALLOWED_ATTRIBUTES`.
        captures: content may leave, in whatever span.
        limit: characters of content in one attribute.
        has_redactor: content leaves through an operator's redactor only; it is ours that does.
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
        self._kept_back = _TEXTS.difference(allowed)
        self._people = PEOPLE.difference(allowed)
        self._asked_for = frozenset(allowed)
        self._captures_ours = captures
        self._captures = captures and not has_redactor
        self._limit = limit
        self._suspects = lru_cache(maxsize=1024)(self._suspects_among)

    def applied(self, span: ReadableSpan) -> ReadableSpan:
        """`span`, or a copy of it without what must not leave."""
        scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
        if is_instrumentation(scope):
            return self._of_stock(span)
        has_state = span.context is not None and bool(span.context.trace_state)
        if scope == OURS:
            if (
                has_state
                or self._tells(span.attributes)
                or any(map(self._tells_event, span.events))
            ):
                return _copy(span, self._of_ours, self._of_our_event)
            return span
        if (
            span.events
            or span.links
            or span.status.description
            or has_state
            or self._tells(span.attributes)
        ):
            return _copy(
                span, self._without_texts, self._of_event, status=self._status(span.status)
            )
        return span

    def _of_stock(self, span: ReadableSpan) -> ReadableSpan:
        given = span.attributes or {}
        system = given.get("db.system", given.get("db.system.name"))
        query = None
        if system is not None:
            statement = next((given[key] for key in _STATEMENTS if key in given), "")
            query = sql.summary(str(statement), str(system))
        return _copy(
            span,
            self._of_allowed,
            self._of_stock_event,
            name=str(span.name)
            if isinstance(span.name, StatedName)
            else query or _name(span.name, given),
            status=Status(span.status.status_code),
            more={"db.query.summary": query} if query else {},
        )

    def _of_allowed(self, attributes: Attributes) -> Attributes:
        kept: dict[str, Any] = {}
        for key, value in (attributes or {}).items():
            if key in _MODELS:
                kept[key] = value if key in self._asked_for else model_text(value)
            elif key in self._allowed:
                if key not in _ONLY or _ONLY[key](str(value)):
                    kept[key] = value
            elif self._captures and is_said(key):
                kept[key] = self._cut(value)
        return kept

    def _without_texts(self, attributes: Attributes) -> Attributes:
        """Of a span of the application."""
        if not attributes:
            return attributes
        kept = self._without_what_tells(attributes, frozenset()) or {}
        if self._kept_back.isdisjoint(kept):
            return kept
        return {key: value for key, value in kept.items() if key not in self._kept_back}

    def _of_ours(self, attributes: Attributes) -> Attributes:
        captured = _OUR_CONTENT if self._captures_ours else frozenset[str]()
        return self._without_what_tells(attributes, captured)

    def _without_what_tells(self, attributes: Attributes, captured: frozenset[str]) -> Attributes:
        suspects = self._tells(attributes)
        if not attributes or not suspects:
            return attributes
        kept: dict[str, Any] = {}
        for key, value in attributes.items():
            if key not in suspects or key in captured:
                kept[key] = value
            elif key not in self._people and isinstance(value, bool | int | float):
                kept[key] = value  # a number tells nothing
            elif self._captures and is_said(key):
                kept[key] = self._cut(value)
        return kept

    def _tells(self, attributes: Attributes) -> frozenset[str]:
        """The keys whose values may have to stay here."""
        return self._suspects(tuple(attributes or ()), _TELLS_OF_PEOPLE in sys.modules)

    def _suspects_among(self, keys: tuple[str, ...], people_too: bool) -> frozenset[str]:  # noqa: FBT001 - a key of the cache
        return frozenset(
            key
            for key in keys
            if key not in self._asked_for
            and (may_tell(key) or (people_too and key in self._people))
        )

    def _tells_event(self, event: Event) -> bool:
        return may_tell(event.name) or bool(self._tells(event.attributes))

    def _of_event(self, event: Event) -> Event:
        """Of a span of the application."""
        return Event(event.name, self._of_event_named(event, self._without_texts), event.timestamp)

    def _of_our_event(self, event: Event) -> Event:
        return Event(event.name, self._of_event_named(event, self._of_ours), event.timestamp)

    def _of_event_named(self, event: Event, rule: Callable[[Attributes], Attributes]) -> Attributes:
        """By `rule`; what was said travels under any key where the event's name says so."""
        if not may_tell(event.name):
            return rule(event.attributes)
        if self._captures and is_said(event.name):
            return {key: self._cut(value) for key, value in (event.attributes or {}).items()}
        return self._of_allowed(event.attributes)

    def _of_stock_event(self, event: Event) -> Event:
        name = event.name if _NAME.fullmatch(event.name) else "event"
        return Event(name, self._of_event_named(event, self._of_allowed), event.timestamp)

    def _cut(self, value: Any) -> Any:
        if isinstance(value, str):
            return value[: self._limit]
        if isinstance(value, tuple | list):
            return tuple(self._cut(one) for one in value)
        return value

    def _status(self, status: Status) -> Status:
        """Without the message of an exception, which the SDK writes behind its class."""
        if not self._kept_back or status.description is None:
            return status
        found = _CLASS.match(status.description)
        return Status(status.status_code, found[1]) if found else status


class RedactingSpanProcessor(SpanProcessor):
    """Hands spans on to `processor` as the rule has them.

    A span that cannot be cleaned goes nowhere, and is counted as a fault.
    """

    def __init__(self, processor: SpanProcessor, redaction: Redaction, recorder: Recorder) -> None:
        self._processor = processor
        self._redaction = redaction
        self.recorder = recorder
        self.has_spans = False
        self.sees_starts = not only_sees_ends(processor)
        """Whether the processor looks at spans before they have ended."""

    @guarded
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Let the processor behind set attributes, and read what may leave."""
        if self.sees_starts:
            self._processor.on_start(self._stand_in(span), parent_context)

    @guarded
    def _on_ending(self, span: Span) -> None:
        """As `on_start`, just before its end; not public yet, but a processor may have it."""
        on_ending = getattr(self._processor, "_on_ending", None)
        if self.sees_starts and on_ending is not None:
            on_ending(self._stand_in(span))

    def _stand_in(self, span: Span) -> Span:
        return cast("Span", StartedSpan(span, self._as_it_leaves))

    def _as_it_leaves(self, span: ReadableSpan) -> ReadableSpan:
        """Cleaned; where that fails, nothing but what has no texts."""
        return self._cleaned(span) or ReadableSpan("span", span.context, resource=span.resource)

    @guarded
    def _cleaned(self, span: ReadableSpan) -> ReadableSpan:
        return self._redaction.applied(span)

    @guarded
    def on_end(self, span: ReadableSpan) -> None:
        """Clean and hand on."""
        self.has_spans = True
        self._processor.on_end(self._redaction.applied(span))

    def shutdown(self) -> None:
        """Shut the processor behind down."""
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the processor behind; at most `timeout_millis` ms."""
        return self._processor.force_flush(timeout_millis)


class RedactingTracerProvider(TracerProvider):
    """Whatever processor is added, by us or by the application, gets spans as the rule has them."""

    def __init__(self, redaction: Redaction, recorder: Recorder, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._redaction = redaction
        self.recorder = recorder
        self._behind_the_rule: list[RedactingSpanProcessor] = []
        self.sees_starts = False
        """Whether a processor looks at spans before they have ended."""

    @property
    def has_spans(self) -> bool:
        """Whether any has ended in this process."""
        return any(processor.has_spans for processor in self._behind_the_rule)

    def forget_spans(self) -> None:
        """After a fork: the parent's are not this process's."""
        for processor in self._behind_the_rule:
            processor.has_spans = False

    def _update_resource(self, resource: Resource) -> None:
        # The SDK detects some of it again after a fork.
        super()._update_resource(without_secrets(resource))

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """The SDK's tracer; for our own spans, one that makes them at once."""
        tracer = super().get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        if is_provider(instrumenting_module_name):
            return cast("trace.Tracer", ProviderTracer(tracer))
        if instrumenting_module_name != OURS or not isinstance(tracer, Tracer):
            return tracer
        scope = InstrumentationScope(OURS, instrumenting_library_version, schema_url, attributes)
        return TracerAtOnce(self, scope, tracer)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand a span of a `TracerAtOnce` to all processors."""
        for processor in self._behind_the_rule:
            processor.on_end(span)

    @guarded
    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add it behind the rule."""
        behind = RedactingSpanProcessor(span_processor, self._redaction, self.recorder)
        self._behind_the_rule.append(behind)
        self.sees_starts = self.sees_starts or behind.sees_starts
        super().add_span_processor(behind)


def _copy(  # noqa: PLR0913 - what of a span is another
    span: ReadableSpan,
    attributes: Callable[[Attributes], Attributes],
    event: Callable[[Event], Event],
    *,
    name: str | None = None,
    status: Status | None = None,
    more: Mapping[str, str] | None = None,
) -> ReadableSpan:
    return ReadableSpan(
        name=name or span.name,
        context=_without_state(span.context),
        parent=_without_state(span.parent),
        resource=span.resource,
        attributes={**(attributes(span.attributes) or {}), **(more or {})},
        events=[event(one) for one in span.events],
        links=[Link(_without_state(one.context), attributes(one.attributes)) for one in span.links],
        kind=span.kind,
        status=status or span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_state(context: Any) -> Any:
    """`context` without what other vendors wrote into its trace state."""
    if not context or not context.trace_state:
        return context
    own = context.trace_state.get("ot")
    kept = [("ot", own)] if own is not None and _OPENTELEMETRY_STATE.fullmatch(own) else None
    return SpanContext(
        context.trace_id,
        context.span_id,
        context.is_remote,
        context.trace_flags,
        TraceState(kept),
    )


def _name(name: str, attributes: Mapping[str, Any]) -> str:
    """The name of a stock span without raw paths, statements and keys."""
    if "db.system" in attributes or "db.system.name" in attributes:
        system = attributes.get("db.system", attributes.get("db.system.name", "db"))
        return sql.operation(name) or str(system)
    method = attributes.get("http.request.method", attributes.get("http.method"))
    if method is not None and "gen_ai.operation.name" not in attributes:
        route = attributes.get("http.route")
        return f"{method} {route}" if route else str(method)
    is_fit = _NAME.fullmatch(name) and not any(map(is_address, name.split()))
    return name if is_fit else "span"
