"""Copies of spans from which something is removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, Status, TraceState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.util.types import Attributes

_OPENTELEMETRY_STATE: Final = re.compile(
    r"[a-z]{1,4}:[0-9a-f.]{1,20}(;[a-z]{1,4}:[0-9a-f.]{1,20})*"
)


def redacted_copy(  # noqa: PLR0913 - what differs in the copy
    span: ReadableSpan,
    attributes: Callable[[Attributes], Attributes],
    event: Callable[[Event], Event],
    *,
    name: str | None = None,
    status: Status | None = None,
    more: Mapping[str, str] | None = None,
) -> ReadableSpan:
    """Returns a copy of `span`.

    It states as dropped what the SDK's limits have cut off the span, not what was removed here.

    Args:
        span: the span.
        attributes: returns what may remain of the span's, or of a link's, attributes.
        event: returns what may remain of an event.
        name: of the copy; None keeps the name.
        status: of the copy; None keeps the status.
        more: attributes that are added.
    """
    kept = {**(attributes(span.attributes) or {}), **(more or {})}
    return ReadableSpan(
        name=name or span.name,
        context=without_state(span.context),
        parent=without_state(span.parent),
        resource=span.resource,
        attributes=_with_dropped(kept, span.dropped_attributes),
        events=_listed([_copied_event(old, event) for old in span.events], span.dropped_events),
        links=_listed([_copied_link(old, attributes) for old in span.links], span.dropped_links),
        kind=span.kind,
        status=status or span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def without_state(context: Any) -> Any:
    """Returns `context` without the entries of other vendors in its trace state."""
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


def _copied_event(event: Event, copied: Callable[[Event], Event]) -> Event:
    copy, dropped = copied(event), event.dropped_attributes
    if not dropped:
        return copy
    return Event(copy.name, _with_dropped(copy.attributes, dropped), copy.timestamp)


def _copied_link(link: Link, attributes: Callable[[Attributes], Attributes]) -> Link:
    kept = _with_dropped(attributes(link.attributes), link.dropped_attributes)
    return Link(without_state(link.context), kept)


def _with_dropped(attributes: Attributes, dropped: int) -> Attributes:
    if not dropped:
        return attributes
    bounded = BoundedAttributes(attributes=dict(attributes or {}))
    bounded.dropped = dropped
    return bounded


def _listed(values: Sequence[Any], dropped: int) -> Sequence[Any]:
    if not dropped:
        return values
    bounded: Any = BoundedList.from_seq(None, values)
    bounded.dropped = dropped
    return bounded
