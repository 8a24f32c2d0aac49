"""otel-coach's own spans, which are built once, when they end.

The SDK's span keeps its attributes behind a lock from its start on, and most of its cost arises at
the start, when nothing is known of the request yet. A `DeferredSpan` buffers what is set on it and
becomes the SDK's `ReadableSpan` when it ends. Code that reads it earlier gets a `ReadableSpan` that
is built for it. The sampling decision and the ids are made when they are first needed, at the
latest when it ends. Sampler, id generator, resource and processors are the provider's; the limits
are those that the SDK's variables set (OTEL_SPAN_*, OTEL_EVENT_*, OTEL_LINK_*, OTEL_ATTRIBUTE_*).
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
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_coach.core.copies import items_of
from otel_coach.core.guard import guarded
from otel_coach.core.spans import without_kept

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.util.types import Attributes, AttributeValue

    from otel_coach.core.guard import CountsFaults

_logger = logging.getLogger("otel_coach")

_STR: Final = frozenset({str})
_PLAIN: Final = frozenset({str, int, bool, float})
"""Types of values that are stored unchecked, as are tuples of str; the API checks all others."""
_UNSET: Final = Status()
_EMPTY_CONTEXT: Final = Context()
_FLAGS: Final = tuple(TraceFlags(bits) for bits in range(4))
_RANDOM: Final = 2
"""The trace flag that says that the trace id is random (W3C Trace Context Level 2)."""
_READABLE_FIELDS: Final = frozenset(vars(ReadableSpan("", resource=Resource.get_empty())))
"""Instance attributes of a `ReadableSpan`, which its methods and properties read."""


class _Decision(NamedTuple):
    """The ids of a span, and what the sampler decided."""

    context: SpanContext
    parent: SpanContext | None
    is_recording: bool
    attributes: Attributes
    """The attributes that the span starts with, as the sampler returned them."""


class DeferredSpan(trace.Span, ReadableSpan):
    """Buffers what is set on the span; the SDK's `ReadableSpan` is built when it ends.

    It can be read like any span of the SDK: what it does not keep itself is read from a
    `ReadableSpan` that is built for the purpose. `DeferredTracer` makes these spans.
    """

    # Class-level defaults for attributes that most spans never set.
    start_links: Sequence[Link] = ()
    _later_name: str | None = None
    _later_attributes: MutableMapping[str, Any] | None = None
    """Attributes that were set after the start."""
    _events: Sequence[Event] = ()
    _links: Sequence[Link] = ()
    _status = _UNSET
    _end_time: int | None = None
    _decisions: list[_Decision] | None = None

    def __init__(  # noqa: PLR0913, PLR0917 - only DeferredTracer calls it
        self,
        tracer: DeferredTracer,
        name: str,
        parent_context: Context,
        kind: SpanKind,
        attributes: Attributes,
        start_time: int,
    ) -> None:
        self._tracer = tracer
        self.start_name = name
        self.parent_context = parent_context
        self.start_kind = kind
        self.start_attributes = attributes
        self._start_time = start_time

    @property
    def _decision(self) -> _Decision:
        decisions = self._decisions
        if decisions is None:
            decisions = vars(self).setdefault("_decisions", [])
        if not decisions:
            # Two threads may decide at the same time: both use the first decision in the list.
            decisions.append(self._tracer.decide(self) or self._tracer.undecided(self))
        return decisions[0]

    def get_span_context(self) -> SpanContext:
        return self._decision.context

    def is_recording(self) -> bool:
        return self._end_time is None and self._decision.is_recording

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        known = self._later_attributes
        if self._end_time is None and self._tracer.takes(known, attributes):
            if known is None:
                self._later_attributes = {**attributes}
            else:
                known.update(attributes)
            return
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if not self._is_open("set_attribute"):
            return
        known = self._later_attributes
        if known is None:
            known = self._later_attributes = {}
        if type(known) is dict and not self._tracer.takes(known, {key: value}):
            known = self._later_attributes = self._tracer.bounded(known)
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
        new = Status(status, description) if isinstance(status, StatusCode) else status
        if getattr(new, "status_code", StatusCode.UNSET) is not StatusCode.UNSET:
            self._status = new

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the API's signature
    ) -> None:
        cls = type(exception)
        module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
        recorded: dict[str, Any] = {
            "exception.type": module + cls.__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**recorded, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        if not self._is_open("end"):
            return
        is_recording = self._decision.is_recording
        # Never before the start, even if the clock was set back meanwhile.
        self._end_time = max(time_ns(), self._start_time) if end_time is None else end_time
        # Released, because contexts could keep a whole chain of earlier spans alive.
        self.parent_context = _EMPTY_CONTEXT
        if is_recording:
            self._tracer.provider.on_end(self._readable_span())

    def end_with(
        self, end_time: int, name: str | None, attributes: Attributes, status: Status | None
    ) -> None:
        """Ends the span with the given values, but keeps those that the application has set."""
        if name is not None and self._later_name is None:
            self._later_name = name
        if attributes:
            later = self._later_attributes
            self.set_attributes(without_kept(attributes, later) if later else attributes)
        if status is not None and self._status is _UNSET:
            self.set_status(status)
        self.end(end_time)

    def _readable_span(self) -> ReadableSpan:
        """Returns the span as it is now; a method of the SDK's own spans has this name, too."""
        decision, tracer = self._decision, self._tracer
        return ReadableSpan(
            name=self._name,
            context=decision.context,
            parent=decision.parent,
            resource=tracer.provider.resource,
            attributes=self._attributes_with(decision.attributes),
            events=self._events,
            links=self._links,
            kind=self.start_kind,
            status=self._status,
            start_time=self._start_time,
            end_time=self._end_time,
            instrumentation_scope=tracer.scope,
        )

    def __getattr__(self, name: str) -> Any:
        if name in _READABLE_FIELDS:
            return getattr(self._readable_span(), name)
        return self.__getattribute__(name)  # raises the usual AttributeError

    @property
    def _instrumentation_info(self) -> object:
        """The deprecated form of `instrumentation_scope`; None where the SDK no longer has it."""
        return getattr(self._tracer.sdk, "instrumentation_info", None)

    @property
    def _name(self) -> str:
        return self.start_name if self._later_name is None else self._later_name

    def _attributes_with(self, first: Attributes) -> MutableMapping[str, Any]:
        """Returns `first`, updated with the attributes that were set after the start."""
        later = self._later_attributes or {}
        if not first:
            return later
        if self._tracer.takes(later, first):
            return {**first, **later}
        known = self._tracer.bounded(first)
        for key, value in items_of(later):  # another thread may be adding to it
            known[key] = value
        known.dropped += getattr(later, "dropped", 0)
        return known

    def _is_open(self, what: str) -> bool:
        if self._end_time is not None:
            _logger.warning("otel-coach: %s called on the span %s after its end", what, self._name)
        return self._end_time is None


class SpanReceiver(Protocol):
    """The part of a tracer provider that a `DeferredTracer` needs."""

    sampler: Sampler
    id_generator: IdGenerator
    sees_starts: bool
    """Whether a processor reads spans before they end: then the SDK's own spans are used."""

    @property
    def recorder(self) -> CountsFaults:
        """Counts otel-coach's own faults."""
        ...

    @property
    def resource(self) -> Resource:
        """The resource of all spans."""
        ...

    def on_end(self, span: ReadableSpan) -> None:
        """Passes an ended span to the processors."""
        ...


class DeferredTracer(trace.Tracer):
    """Makes `DeferredSpan`s for `provider`; `sdk` is the SDK's tracer of the same scope."""

    def __init__(
        self, provider: SpanReceiver, scope: InstrumentationScope, sdk: trace.Tracer
    ) -> None:
        self.provider = provider
        self.scope = scope
        self.limits = SpanLimits()
        self.sdk = sdk
        self._is_enabled = getattr(sdk, "_is_enabled", lambda: True)
        """Whether the tracer configurator enables this tracer; always so in an SDK without one."""
        limits = self.limits
        self._max_unchecked = 0 if limits.max_span_attribute_length is not None else math.inf
        if limits.max_span_attributes is not None:
            self._max_unchecked = min(self._max_unchecked, limits.max_span_attributes)

    def takes(self, known: Mapping[str, Any] | None, more: Mapping[str, object]) -> bool:
        """Returns whether `more` can join `known` unchecked: plain types, within all limits."""
        if known is not None and type(known) is not dict:
            return False
        return (
            len(known or ()) + len(more) <= self._max_unchecked
            and _STR.issuperset(map(type, more))
            and (
                _PLAIN.issuperset(map(type, more.values()))
                or all(type(value) in _PLAIN or _is_tuple_of_str(value) for value in more.values())
            )
        )

    def bounded(self, known: Mapping[str, Any]) -> BoundedAttributes:
        """Returns `known` as mutable attributes, which the API checks and bounds."""
        limits = self.limits
        max_length = limits.max_span_attribute_length
        return BoundedAttributes(limits.max_span_attributes, known, False, max_length)  # noqa: FBT003 - mutable

    def checked(self, attributes: Attributes, max_count: int | None) -> BoundedAttributes:
        """Returns the `attributes` of an event or a link, checked and bounded by the API."""
        max_length = self.limits.max_attribute_length
        return BoundedAttributes(max_count, attributes, max_value_len=max_length)

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
        # Looked up now: when the decision is made, another context is current.
        parent_context = otel_context.get_current() if context is None else context
        span = DeferredSpan(self, name, parent_context, kind, attributes, start_time or time_ns())
        if links:
            span.start_links = links
            for link in links:
                span.add_link(link.context, link.attributes)
        return span

    @property
    def recorder(self) -> CountsFaults:
        """Counts otel-coach's own faults."""
        return self.provider.recorder

    @guarded  # a sampler may raise, also where the application reads its current span
    def decide(self, span: DeferredSpan) -> _Decision:
        """Generates the ids of `span` and asks the sampler about it."""
        context = span.parent_context
        ids = self.provider.id_generator
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid:
            trace_id, random = parent.trace_id, parent.trace_flags & _RANDOM
        else:
            trace_id = ids.generate_trace_id()
            # The SDK calls this method from 1.42 on.
            random = _RANDOM if getattr(ids, "is_trace_id_random", bool)() else 0
        sampled = self.provider.sampler.should_sample(
            context,
            trace_id,
            span.start_name,
            span.start_kind,
            span.start_attributes,
            span.start_links or None,
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

    def undecided(self, span: DeferredSpan) -> _Decision:
        """Returns the decision if `decide` failed: not recording, with the parent's context."""
        parent = trace.get_current_span(span.parent_context).get_span_context()
        return _Decision(parent, None, is_recording=False, attributes=None)

    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Required by the API; otel-coach itself starts no span this way."""
        return trace.use_span(self.start_span(name, *args, **kwargs), end_on_exit=True)


def _is_tuple_of_str(value: object) -> bool:
    return type(value) is tuple and _STR.issuperset(map(type, cast("tuple[object, ...]", value)))
