"""The SDK's queues of spans and its pushes of metrics, which count what they lose."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)

from otel_coach.losses import CountedExporter, Exports
from otel_coach.vocabulary import METRICS_EXPORT, SPANS_EXPORT, SPANS_QUEUE_FULL

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

    from otel_coach.losses import Losses

_LONGEST_STOP: Final = 30.0
"""Seconds that the SDK waits for what is left, where nobody sets an end."""


def ends_in_time() -> bool:
    """Whether what does the work behind a batch processor can be told when to end."""
    processor = BatchSpanProcessor(ConsoleSpanExporter())
    inner = getattr(processor, "_batch_processor", None)
    try:
        return inner is not None and "timeout_millis" in signature(inner.shutdown).parameters
    finally:
        processor.shutdown()


def stopped(processor: Any, stop: Callable[[], object], losses: Losses) -> None:
    """Let a batch processor of the SDK send what it has, until the end that `losses` knows.

    Its own `stop` has no such end; what does the work behind it has, but is not public.
    """
    inner = getattr(processor, "_batch_processor", None)
    if inner is None:
        stop()
    else:
        inner.shutdown(timeout_millis=1000 * min(_LONGEST_STOP, losses.seconds_left))


class CountedSpans(BatchSpanProcessor):
    """The SDK's, whose queue is never over-full: what finds no place in it is counted.

    It drops the newest then; the SDK would drop the oldest, and say so for each.
    """

    def __init__(self, exporter: SpanExporter, losses: Losses) -> None:
        self._losses = losses
        self._exports = losses.of_queue(SPANS_EXPORT, losses.span_places)
        counted: Any = CountedExporter(exporter, self._exports)
        super().__init__(counted, max_queue_size=losses.span_places)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue it, if it is sampled."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        if self._exports.take():
            super().on_end(span)
        elif self._exports.is_closed:
            self._losses.add(SPANS_EXPORT, 1)
        else:
            self._losses.no_place(SPANS_QUEUE_FULL, "spans", OTEL_BSP_MAX_QUEUE_SIZE)

    def shutdown(self) -> None:
        """Send what is left, until the end that was set."""
        stopped(self, super().shutdown, self._losses)
        self._exports.close()


def span_processor(exporter: SpanExporter, losses: Losses) -> SpanProcessor:
    """What sends through `exporter`."""
    # A person who watches the console wants a span when it ends, not five seconds later.
    if isinstance(exporter, ConsoleSpanExporter):
        counted: Any = CountedExporter(exporter, Exports(losses, SPANS_EXPORT))
        return SimpleSpanProcessor(counted)
    return CountedSpans(exporter, losses)


class PushReader(PeriodicExportingMetricReader):
    """The SDK's, which does not send for a process that measured nothing: a supervisor, say.

    The points of a push that fails are counted as lost. Sums are not: the next push repeats them.
    """

    is_idle: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(self, exporter: MetricExporter, losses: Losses) -> None:
        counted: Any = CountedExporter(exporter, Exports(losses, METRICS_EXPORT), _points)
        super().__init__(counted)

    def _receive_metrics(self, *args: Any, **kwargs: Any) -> None:
        if not self.is_idle():
            super()._receive_metrics(*args, **kwargs)


def _points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
