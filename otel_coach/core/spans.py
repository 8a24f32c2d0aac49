"""Spans of the OpenTelemetry API: whether they are made, whether they are sampled, their end."""

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
"""Whether the caller of the current request is untrusted, so that its trace context and baggage are
ignored. Not kept in OpenTelemetry's context, because an extraction replaces that."""
CURRENT_RUN: Final = otel_context.create_key("otel_coach.run")
"""Key of the run that a context belongs to, an object with the attributes `calls_provider`,
`is_traced` and `executes_current_code`."""


def is_open_call(run: Any) -> bool:
    """Whether the current code may belong to `run`, the call of a chat or an embedding model.

    `run` may be another run, or None.
    """
    return run is not None and run.calls_provider and run.executes_current_code


def is_inside_call(context: Context | None = None) -> bool:
    """Whether `context` (default: the current one) belongs to a model call that is still open."""
    return is_open_call(otel_context.get_value(CURRENT_RUN, context))


def is_inside_traced_call(context: Context | None = None) -> bool:
    """Whether `context` belongs to an open model call that has a span of otel-coach's."""
    run: Any = otel_context.get_value(CURRENT_RUN, context)
    return is_open_call(run) and run.is_traced


_KEPT_IF_SET: Final = frozenset({"error.type", "http.route"})
"""Attributes that keep a value set by the application; otel-coach's value replaces all others."""


def start_of_clock() -> int:
    """Returns the time, in ns since the epoch, at which `time.perf_counter` was 0.

    It is computed from the wall clock as it is now. All spans of a request, or of a run outside any
    request, are timed from one such value. So no span ends before its start or outside its parent
    span, even if the wall clock is set meanwhile.
    """
    return time_ns() - perf_counter_ns()


def time_at(start_of_clock: int, seconds: float) -> int:
    """Returns the span time, in ns since the epoch, at which `time.perf_counter` was `seconds`."""
    return start_of_clock + int(seconds * 1e9)


class Renaming(NamedTuple):
    """The names of a span at its start and at its end."""

    started_as: str
    ends_as: str
    """The span's final name, unless the application has named it."""


class StatedName(str):
    """A name that the application gave to a contrib instrumentation's span; exported unchanged."""

    __slots__ = ()


def is_idle(tracer: Tracer) -> bool:
    """Whether `tracer` makes no spans, because the global provider that it waits for is not set."""
    # Exact types: `isinstance` with abstract classes takes 0.08 µs more.
    return (
        type(tracer) is trace.ProxyTracer
        and type(trace.get_tracer_provider()) is trace.ProxyTracerProvider
    )


def is_sampled(context: Context) -> bool:
    """Whether the span in `context` is sampled, so that an exemplar may name its trace."""
    return trace.get_current_span(context).get_span_context().trace_flags.sampled


def without_kept(
    attributes: Mapping[str, AttributeValue], set_by_application: Mapping[str, Any]
) -> dict[str, AttributeValue]:
    """Returns `attributes` without those that keep the value that the application has set."""
    return {
        key: value
        for key, value in attributes.items()
        if key not in _KEPT_IF_SET or key not in set_by_application
    }


def end_span(
    span: Span,
    end_time: int,
    name: Renaming | None,
    attributes: Mapping[str, AttributeValue] | None,
    status: Status | None,
) -> None:
    """Ends `span` at `end_time` (ns since the epoch) with its final name, attributes and status.

    A name, a status, a route or an error type that the application has set is kept.
    """
    end_with = getattr(span, "end_with", None)
    if end_with is not None:  # one of otel-coach's own, which knows what the application has set
        end_with(end_time, None if name is None else name.ends_as, attributes, status)
        return
    if name is not None and _read(span, "name", name.started_as) == name.started_as:
        span.update_name(name.ends_as)
    if attributes:
        span.set_attributes(without_kept(attributes, _read(span, "attributes", {})))
    if status is not None and not _has_status(span):
        span.set_status(status)
    span.end(end_time)


class HandedOver:
    """A span that another instrumentation made and will end.

    It remembers the span's name, route and error type, to recognise what the application changes.
    """

    def __init__(self, span: Span) -> None:
        self._span = span
        self._name = _read(span, "name", None)
        self._before = self._current()

    def name(self, name: str) -> None:
        """Sets the span's name, unless the application has named it since."""
        current = _read(self._span, "name", None)
        if current != self._name:
            self._span.update_name(StatedName(current))
        else:
            self._span.update_name(name)
            self._name = name

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Sets `attributes`, except a route or error type that the application has set since."""
        changed = {
            key: value for key, value in self._current().items() if value != self._before.get(key)
        }
        self._span.set_attributes(without_kept(attributes, changed))
        self._before = {**self._current(), **{key: self._before.get(key) for key in changed}}

    def _current(self) -> dict[str, object]:
        attributes = _read(self._span, "attributes", {})
        return {key: attributes[key] for key in _KEPT_IF_SET if key in attributes}


def _read(span: Span, name: str, default: Any) -> Any:
    """Returns the Python attribute `name` of `span`, or `default`; API spans need not have it."""
    value = getattr(span, name, None)
    return default if value is None else value


def _has_status(span: Span) -> bool:
    status = _read(span, "status", None)
    return getattr(status, "status_code", StatusCode.UNSET) is not StatusCode.UNSET
