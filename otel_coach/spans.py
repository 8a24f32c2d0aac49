"""Our own spans, put together once, when they end.

The SDK's span keeps its attributes behind a lock from its start on; most of what it costs is spent
before anything is known of the request. These spans remember what they are told, and at their end
become the SDK's own `ReadableSpan`. Whoever reads one before gets a `ReadableSpan` of the moment.
Whether a span is sampled, and its ids, are decided when somebody asks, at its end at the latest.
Sampler, ids, limits, resource and processors are the provider's.
"""

from __future__ import annotations

import logging
import math
import traceback
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from otel_coach.guards import guarded
from otel_coach.tracing import without_said

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.util.types import Attributes, AttributeValue

    from otel_coach.guards import CountsFaults

_logger = logging.getLogger("otel_coach")

_TEXT: Final = frozenset({str})
_PLAIN: Final = frozenset({str, int, bool, float})
"""Types of values that are taken as they are, with tuples of texts; the API checks others."""
_UNSET: Final = Status()
_NOTHING: Final = Context()
_FLAGS: Final = tuple(TraceFlags(bits) for bits in range(4))
_RANDOM: Final = 2
"""The bit of a trace whose id is random (W3C Trace Context Level 2)."""
_KEPT: Final = frozenset(vars(ReadableSpan("", resource=Resource.get_empty())))
"""Attributes of its own that a `ReadableSpan` reads when it is asked for anything."""


class _Decision(NamedTuple):
    """What sampler and id generator said of a span."""

    context: SpanContext
    parent: SpanContext | None
    is_recording: bool
    attributes: Attributes
    """Those that the sampler lets it start with."""


class SpanAtOnce(trace.Span, ReadableSpan):
    """A span that is told about first, and made at its end. Made by `TracerAtOnce`.

    It is read as every span of the SDK: what it does not keep itself is asked of a `ReadableSpan`.
    """

    # What most spans leave as it is stands in the class, and costs them nothing.
    asked_links: Sequence[Link] = ()
    _later_name: str | None = None
    _later: MutableMapping[str, Any] | None = None
    """Attributes that it was given after its start."""
    _events: Sequence[Event] = ()
    _links: Sequence[Link] = ()
    _status = _UNSET
    _end_time: int | None = None
    _decisions: list[_Decision] | None = None

    def __init__(  # noqa: PLR0913, PLR0917 - what a span is, made in one place
        self,
        tracer: TracerAtOnce,
        name: str,
        around: Context,
        kind: SpanKind,
        asked: Attributes,
        start_time: int,
    ) -> None:
        self._tracer = tracer
        self.asked_name = name
        self.around = around
        self.asked_kind = kind
        self.asked_attributes = asked
        self._start_time = start_time

    @property
    def _decision(self) -> _Decision:
        decisions = self._decisions
        if decisions is None:
            decisions = vars(self).setdefault("_decisions", [])
        if not decisions:
            # Two threads may ask at once: what is first in the list holds for both.
            decisions.append(self._tracer.decide(self) or self._tracer.undecided(self))
        return decisions[0]

    def get_span_context(self) -> SpanContext:
        return self._decision.context

    def is_recording(self) -> bool:
        return self._end_time is None and self._decision.is_recording

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        known = self._later
        if self._end_time is None and self._tracer.takes(known, attributes):
            if known is None:
                self._later = {**attributes}
            else:
                known.update(attributes)
            return
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if not self._is_open("set_attribute"):
            return
        known = self._later
        if known is None:
            known = self._later = {}
        if type(known) is dict and not self._tracer.takes(known, {key: value}):
            known = self._later = self._tracer.bounded(known)
        known[key] = value

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        if self._is_open("add_event"):
            limits = self._tracer.limits
            if not isinstance(self._events, BoundedList):
                self._events = BoundedList(limits.max_events)
            checked = self._tracer.checked(attributes, limits.max_event_attributes)
            self._events.append(Event(name, checked, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if not context or not (context.is_valid or context.trace_state or attributes):
            return
        if self._is_open("add_link"):
            limits = self._tracer.limits
            if not isinstance(self._links, BoundedList):
                self._links = BoundedList(limits.max_links)
            checked = self._tracer.checked(attributes, limits.max_link_attributes)
            self._links.append(Link(context, checked))

    def update_name(self, name: str) -> None:
        if self._is_open("update_name"):
            self._later_name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if not self._is_open("set_status") or self._status.status_code is StatusCode.OK:
            return
        asked = Status(status, description) if isinstance(status, StatusCode) else status
        if getattr(asked, "status_code", StatusCode.UNSET) is not StatusCode.UNSET:
            self._status = asked

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the API's signature
    ) -> None:
        cls = type(exception)
        module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
        said: dict[str, Any] = {
            "exception.type": module + cls.__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**said, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        if not self._is_open("end"):
            return
        is_recording = self._decision.is_recording
        # A clock that was set back meanwhile makes no span negative.
        self._end_time = max(time_ns(), self._start_time) if end_time is None else end_time
        self.around = _NOTHING  # which may hold the span before this one, and so on
        if is_recording:
            self._tracer.provider.on_end(self._readable_span())

    def end_with(
        self, end_time: int, name: str | None, attributes: Attributes, status: Status | None
    ) -> None:
        """End it with what is known by then; what the application said of it stays."""
        if name is not None and self._later_name is None:
            self._later_name = name
        if attributes:
            later = self._later
            self.set_attributes(without_said(attributes, later) if later else attributes)
        if status is not None and self._status is _UNSET:
            self.set_status(status)
        self.end(end_time)

    def _readable_span(self) -> ReadableSpan:
        """As it is now; also the SDK's name for this."""
        decision, tracer = self._decision, self._tracer
        return ReadableSpan(
            name=self._name,
            context=decision.context,
            parent=decision.parent,
            resource=tracer.provider.resource,
            attributes=self._attributes_with(decision.attributes),
            events=self._events,
            links=self._links,
            kind=self.asked_kind,
            status=self._status,
            start_time=self._start_time,
            end_time=self._end_time,
            instrumentation_scope=tracer.scope,
        )

    def __getattr__(self, name: str) -> Any:
        if name in _KEPT:
            return getattr(self._readable_span(), name)
        return self.__getattribute__(name)  # which says that there is none

    @property
    def _instrumentation_info(self) -> object:
        """As `instrumentation_scope`; deprecated, and perhaps no longer there."""
        return getattr(self._tracer.sdk, "instrumentation_info", None)

    @property
    def _name(self) -> str:
        return self.asked_name if self._later_name is None else self._later_name

    def _attributes_with(self, first: Attributes) -> MutableMapping[str, Any]:
        """What it was given, after `first`."""
        later = self._later or {}
        if not first:
            return later
        if self._tracer.takes(later, first):
            return {**first, **later}
        known = self._tracer.bounded(first)
        for key, value in tuple(later.items()):  # another thread may be adding to it
            known[key] = value
        known.dropped += getattr(later, "dropped", 0)
        return known

    def _is_open(self, what: str) -> bool:
        if self._end_time is not None:
            _logger.warning("otel-coach: %s on the span %s, which has ended", what, self._name)
        return self._end_time is None


class SpanReceiver(Protocol):
    """The part of a tracer provider that a `TracerAtOnce` needs."""

    sampler: Sampler
    id_generator: IdGenerator
    sees_starts: bool
    """Whether somebody wants to see spans at their start: only the SDK's own will do then."""

    @property
    def recorder(self) -> CountsFaults:
        """Where faults go."""
        ...

    @property
    def resource(self) -> Resource:
        """Who measures."""
        ...

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended."""
        ...


class TracerAtOnce(trace.Tracer):
    """Makes `SpanAtOnce`s for `provider`, whose own tracer of that scope is `sdk`."""

    def __init__(
        self, provider: SpanReceiver, scope: InstrumentationScope, sdk: trace.Tracer
    ) -> None:
        self.provider = provider
        self.scope = scope
        self.limits = SpanLimits()
        self.sdk = sdk
        self._is_enabled = getattr(sdk, "_is_enabled", lambda: True)
        """Whether the operator's tracer configurator wants spans; an SDK may know none."""
        limits = self.limits
        self._most = 0 if limits.max_span_attribute_length is not None else math.inf
        if limits.max_span_attributes is not None:
            self._most = min(self._most, limits.max_span_attributes)

    def takes(self, known: Mapping[str, Any] | None, more: Mapping[str, object]) -> bool:
        """Whether `more` may join `known` as it is: of plain types, and within all limits."""
        if known is not None and type(known) is not dict:
            return False
        return (
            len(known or ()) + len(more) <= self._most
            and _TEXT.issuperset(map(type, more))
            and (
                _PLAIN.issuperset(map(type, more.values()))
                or all(type(value) in _PLAIN or _is_texts(value) for value in more.values())
            )
        )

    def bounded(self, known: Mapping[str, Any]) -> BoundedAttributes:
        """`known` as the API checks and bounds attributes, of a span that is open."""
        limits = self.limits
        longest = limits.max_span_attribute_length
        return BoundedAttributes(limits.max_span_attributes, known, False, longest)  # noqa: FBT003 - mutable

    def checked(self, attributes: Attributes, most: int | None) -> BoundedAttributes:
        """`attributes` of an event or a link."""
        longest = self.limits.max_attribute_length
        return BoundedAttributes(most, attributes, max_value_len=longest)

    def start_span(  # noqa: PLR0913, PLR0917 - the API's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002
    ) -> trace.Span:
        if self.provider.sees_starts or not self._is_enabled():
            return self.sdk.start_span(name, context, kind, attributes, links or (), start_time)
        # The current one is another by the time that it is decided.
        around = otel_context.get_current() if context is None else context
        span = SpanAtOnce(self, name, around, kind, attributes, start_time or time_ns())
        if links:
            span.asked_links = links
            for link in links:
                span.add_link(link.context, link.attributes)
        return span

    @property
    def recorder(self) -> CountsFaults:
        """Where faults go."""
        return self.provider.recorder

    @guarded  # an operator's sampler may fail, and the application asks for its current span
    def decide(self, span: SpanAtOnce) -> _Decision:
        """Ids, and whether it is sampled."""
        context = span.around
        ids = self.provider.id_generator
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid:
            trace_id, random = parent.trace_id, parent.trace_flags & _RANDOM
        else:
            trace_id = ids.generate_trace_id()
            # The SDK asks for it from 1.42 on.
            random = _RANDOM if getattr(ids, "is_trace_id_random", bool)() else 0
        sampled = self.provider.sampler.should_sample(
            context,
            trace_id,
            span.asked_name,
            span.asked_kind,
            span.asked_attributes,
            span.asked_links or None,
        )
        own = SpanContext(
            trace_id,
            ids.generate_span_id(),
            is_remote=False,
            trace_flags=_FLAGS[random | sampled.decision.is_sampled()],
            trace_state=sampled.trace_state,
        )
        return _Decision(
            own,
            parent if parent.is_valid else None,
            sampled.decision.is_recording(),
            sampled.attributes,
        )

    def undecided(self, span: SpanAtOnce) -> _Decision:
        """Of a span that is none, and stands for the one around it."""
        around = trace.get_current_span(span.around).get_span_context()
        return _Decision(around, None, is_recording=False, attributes=None)

    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """As the API's; we start no span that way."""
        return trace.use_span(self.start_span(name, *args, **kwargs), end_on_exit=True)


def _is_texts(value: object) -> bool:
    return type(value) is tuple and _TEXT.issuperset(map(type, cast("tuple[object, ...]", value)))
