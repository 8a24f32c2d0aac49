"""Whether there is anybody who makes spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


def is_idle(tracer: Tracer) -> bool:
    """Whether `tracer` waits for a global provider that nobody has set: it makes no spans."""
    return isinstance(tracer, trace.ProxyTracer) and isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider
    )
