"""Spans, by the API: whether somebody makes them, whether they are sampled, and their end."""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Status, Tracer
    from opentelemetry.util.types import AttributeValue

distrusts_caller: ContextVar[bool] = ContextVar("otel_coach_distrusts_caller", default=False)
"""Whether the caller of the request in whose context code runs is one whose trace context and
baggage are not taken up. It is no part of OpenTelemetry's context, which an extraction replaces."""
CURRENT_RUN: Final = otel_context.create_key("otel_coach.run")
"""Under which a context holds the run that it belongs to: whatever has `is_llm` and `ended`."""


def is_inside_call(context: Context | None = None) -> bool:
    """Whether `context` (default: the current one) is that of a call of a model, still open."""
    run: Any = otel_context.get_value(CURRENT_RUN, context)
    return run is not None and run.is_llm and not run.ended


_WORDS: Final = frozenset({"error.type", "http.route"})
"""Attributes that the application may set better than we do; others are what we measured."""


def start_of_clock() -> int:
    """When `time.perf_counter` was 0, as the wall clock has it now, in ns since the epoch.

    All spans of a request, or of a run outside of any, count from one such moment: where the wall
    clock is set meanwhile, none ends before it began, or outside of the one around it.
    """
    return time_ns() - perf_counter_ns()


def time_at(start_of_clock: int, seconds: float) -> int:
    """The time of a span, in ns since the epoch, at which `time.perf_counter` was `seconds`."""
    return start_of_clock + int(seconds * 1e9)


class Renaming(NamedTuple):
    """The name of a span."""

    started_as: str
    ends_as: str
    """Unless the application named it."""


class StatedName(str):
    """A name that the application gave to a span of a stock instrumentation: it leaves as it is."""

    __slots__ = ()


def is_idle(tracer: Tracer) -> bool:
    """Whether `tracer` waits for a global provider that nobody has set: it makes no spans."""
    # Their very types: to ask an abstract class what is an instance of it takes long.
    return (
        type(tracer) is trace.ProxyTracer
        and type(trace.get_tracer_provider()) is trace.ProxyTracerProvider
    )


def is_sampled(context: Context) -> bool:
    """Whether the span that `context` holds is sampled: an exemplar may name its trace."""
    return trace.get_current_span(context).get_span_context().trace_flags.sampled


def without_said(
    attributes: Mapping[str, AttributeValue], said: Mapping[str, Any]
) -> dict[str, AttributeValue]:
    """`attributes` but for those that the application `said` itself."""
    return {key: value for key, value in attributes.items() if key not in _WORDS or key not in said}


def end_span(
    span: Span,
    end_time: int,
    name: Renaming | None,
    attributes: Mapping[str, AttributeValue] | None,
    status: Status | None,
) -> None:
    """End `span` at `end_time` (ns since the epoch) with what is known then.

    What the application said of it stays: its name, its status, its route.
    """
    end_with = getattr(span, "end_with", None)
    if end_with is not None:  # one of our own, which knows what it was told
        end_with(end_time, None if name is None else name.ends_as, attributes, status)
        return
    if name is not None and _shown(span, "name", name.started_as) == name.started_as:
        span.update_name(name.ends_as)
    if attributes:
        span.set_attributes(without_said(attributes, _shown(span, "attributes", {})))
    if status is not None and not _has_status(span):
        span.set_status(status)
    span.end(end_time)


class HandedOver:
    """A span that somebody else made and will end, as it was when we were told of it."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._name = _shown(span, "name", None)
        self._words = self._said()

    def name(self, name: str) -> None:
        """Name it, unless the application did."""
        shown = _shown(self._span, "name", None)
        if shown != self._name:
            self._span.update_name(StatedName(shown))
        else:
            self._span.update_name(name)
            self._name = name

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set them, but for those that the application has set since."""
        changed = {
            key: value for key, value in self._said().items() if value != self._words.get(key)
        }
        self._span.set_attributes(without_said(attributes, changed))
        self._words = {**self._said(), **{key: self._words.get(key) for key in changed}}

    def _said(self) -> dict[str, object]:
        shown = _shown(self._span, "attributes", {})
        return {key: shown[key] for key in _WORDS if key in shown}


def _shown(span: Span, what: str, otherwise: Any) -> Any:
    """What `span` shows; the API's spans need not show anything."""
    shown = getattr(span, what, None)
    return otherwise if shown is None else shown


def _has_status(span: Span) -> bool:
    status = _shown(span, "status", None)
    return getattr(status, "status_code", StatusCode.UNSET) is not StatusCode.UNSET
