"""What a span processor sees of a span that has only started.

A processor's `on_start` gets the span itself, to set attributes on it; it may also read it, keep
it, and send on what it read. So it gets a stand-in: what is set on it reaches the span, and what is
read of it is what would leave. It passes for a span of the SDK wherever that is asked, also as a
key and in comparisons.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_coach import compatibility

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import Span

_READ: Final = frozenset(
    {
        *(name for name in vars(ReadableSpan) if not name.startswith("__")),
        *vars(ReadableSpan("", resource=Resource.get_empty())),
        "_readable_span",
    }
)
"""All by which a span is read, also what others read though it is not public."""


def knows_endings() -> bool:
    """Whether the SDK's processors have the method that is not public yet."""
    return callable(getattr(SpanProcessor, "_on_ending", None))


def knows_configurators() -> bool:
    """Whether the SDK's tracers say that they are switched off, where they can be."""
    known = inspect.signature(TracerProvider.__init__).parameters
    can_be = any("tracer_configurator" in name for name in known)
    return not can_be or callable(getattr(Tracer, "_is_enabled", None))


def only_sees_ends(processor: SpanProcessor) -> bool:
    """Whether `processor` looks at no span before its end."""
    known = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
    cls = type(processor)
    if not compatibility.holds(compatibility.ENDINGS):
        return cls in known
    starts = {one.on_start for one in known}
    endings = {getattr(one, "_on_ending") for one in known}  # noqa: B009 - not public yet
    return cls.on_start in starts and getattr(cls, "_on_ending", None) in endings


class StartedSpan(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
    """Stands for `span`; `as_it_leaves` makes the copy that may be read."""

    def __init__(self, span: Span, as_it_leaves: Callable[[ReadableSpan], ReadableSpan]) -> None:
        super().__init__(span)
        self._self_as_it_leaves = as_it_leaves

    def __getattribute__(self, name: str) -> Any:
        if name not in _READ:
            return super().__getattribute__(name)
        seen = super().__getattribute__("_self_as_it_leaves")(self.__wrapped__)
        return (lambda: seen) if name == "_readable_span" else getattr(seen, name)
