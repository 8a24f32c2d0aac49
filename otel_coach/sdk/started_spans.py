"""The redacted view of a started span that is passed to span processors.

The SDK passes the span itself to a processor's `on_start`, to set attributes on it. A processor may
also read the span, keep it, and export what it has read. So otel-coach passes a proxy: what is set
on the proxy is set on the span, and what is read from it is what would be exported. In type checks,
the proxy is a span of the SDK; in comparisons and as a dictionary key, it equals the span.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_coach.core import compatibility

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import Span

_READ_NAMES: Final = frozenset(
    {
        *(name for name in vars(ReadableSpan) if not name.startswith("__")),
        *vars(ReadableSpan("", resource=Resource.get_empty())),
        "_readable_span",
    }
)
"""All names by which a span is read; other packages read private ones, too."""


def knows_endings() -> bool:
    """Returns whether the SDK's processors have `_on_ending`, which is not public yet."""
    return callable(getattr(SpanProcessor, "_on_ending", None))


def knows_configurators() -> bool:
    """Returns whether a tracer tells if it is enabled, or the SDK has no tracer configurators."""
    parameters = inspect.signature(TracerProvider.__init__).parameters
    has_configurators = any("tracer_configurator" in name for name in parameters)
    return not has_configurators or callable(getattr(Tracer, "_is_enabled", None))


def only_sees_ends(processor: SpanProcessor) -> bool:
    """Returns whether `processor` never reads a span before its end."""
    sdk_classes = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
    cls = type(processor)
    if not compatibility.holds(compatibility.ENDINGS):
        return cls in sdk_classes
    starts = {base.on_start for base in sdk_classes}
    endings = {getattr(base, "_on_ending") for base in sdk_classes}  # noqa: B009 - not public yet
    return cls.on_start in starts and getattr(cls, "_on_ending", None) in endings


class StartedSpan(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
    """A proxy of `span`; `redact` returns the copy that may be read."""

    def __init__(self, span: Span, redact: Callable[[ReadableSpan], ReadableSpan]) -> None:
        super().__init__(span)
        self._self_redact = redact

    def __getattribute__(self, name: str) -> Any:
        if name not in _READ_NAMES:
            return super().__getattribute__(name)
        redacted = super().__getattribute__("_self_redact")(self.__wrapped__)
        return (lambda: redacted) if name == "_readable_span" else getattr(redacted, name)
