"""Spans, by the API: whether somebody makes them, whether they are sampled, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Status, Tracer
    from opentelemetry.util.types import AttributeValue

CURRENT_RUN: Final = otel_context.create_key("otel_coach.run")
"""Under which a context holds the run that it belongs to: whatever has `is_llm` and `ended`."""


def is_inside_call(context: Context | None = None) -> bool:
    """Whether `context` (default: the current one) is that of a call of a model, still open."""
    run: Any = otel_context.get_value(CURRENT_RUN, context)
    return run is not None and run.is_llm and not run.ended


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


def end_span(
    span: Span,
    end_time: int,
    name: str | None,
    attributes: Mapping[str, AttributeValue] | None,
    status: Status | None,
) -> None:
    """End `span` at `end_time` (ns since the epoch) with what is known then."""
    if name is not None:
        span.update_name(name)
    if attributes:
        span.set_attributes(dict(attributes))
    if status is not None:
        span.set_status(status)
    span.end(end_time)
