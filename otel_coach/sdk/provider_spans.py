"""Keeps a model provider's own package from making a second span for a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry import trace

from otel_coach.core.spans import is_inside_traced_call

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer


class ProviderTracer(wrapt.ObjectProxy):  # type: ignore[type-arg] - generic in its stubs only
    """The tracer of a provider's package; makes no span inside a call that has otel-coach's span.

    Instead, it returns a non-recording span with the context of otel-coach's span. So spans that
    are started below it are children of otel-coach's span, not orphans.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__(tracer)

    def start_span(
        self, name: str, context: Context | None = None, *args: Any, **more: Any
    ) -> Span:
        if is_inside_traced_call(context):
            return trace.NonRecordingSpan(trace.get_current_span(context).get_span_context())
        return self.__wrapped__.start_span(name, context, *args, **more)

    def start_as_current_span(
        self, name: str, context: Context | None = None, *args: Any, **more: Any
    ) -> AbstractContextManager[Span]:
        if is_inside_traced_call(context):
            return trace.use_span(self.start_span(name, context))
        return self.__wrapped__.start_as_current_span(name, context, *args, **more)
