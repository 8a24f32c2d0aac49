"""The SDK's span processors and periodic metric reader, with their losses counted."""

from __future__ import annotations

import math
import threading
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)

from otel_coach.core import compatibility
from otel_coach.metrics.labels import METRICS_EXPORT, SPANS_EXPORT, SPANS_QUEUE_FULL
from otel_coach.sdk.losses import CountedExporter, Exports

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

    from otel_coach.sdk.losses import Losses

_MAX_STOP: Final = 30.0
"""Seconds that the SDK waits for the last export if no deadline is set."""


def ends_in_time() -> bool:
    """Returns whether the private part of a batch processor takes a timeout for its shutdown."""
    processor = BatchSpanProcessor(ConsoleSpanExporter())
    inner = getattr(processor, "_batch_processor", None)
    try:
        return inner is not None and "timeout_millis" in signature(inner.shutdown).parameters
    finally:
        processor.shutdown()


def locks_while_pushing() -> bool:
    """Returns whether a periodic reader has the lock and the event that a child has to replace."""
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(), math.inf)
    try:
        return hasattr(reader, "_export_lock") and hasattr(reader, "_shutdown_event")
    finally:
        reader.shutdown()


def shut_down_in_time(
    processor: Any, stop: Callable[[], object], losses: Losses, exports: Exports
) -> None:
    """Shuts a batch processor of the SDK down; it has until `losses.end` to export its queue.

    Only the first call does so; its provider may call this at the same time. `stop`, the
    processor's public method, takes no timeout. That of its private part does.
    """
    if not exports.begins_to_stop():
        return
    inner = getattr(processor, "_batch_processor", None)
    if inner is None:
        stop()
    else:
        inner.shutdown(timeout_millis=1000 * min(_MAX_STOP, losses.seconds_left))
    exports.close()


def create_with_places(create: Callable[..., None], exporter: Any, places: int) -> None:
    """Calls `create`, the SDK's constructor, for a queue with that many places.

    The SDK refuses a queue that is shorter than a batch, which has 512 spans by default. The
    batches are then as long as the queue.
    """
    try:
        create(exporter, max_queue_size=places)
    except ValueError:
        create(exporter, max_queue_size=places, max_export_batch_size=places)


class CountedSpans(BatchSpanProcessor):
    """The SDK's processor, extended: drops and counts a span that finds the queue full.

    It drops the newest span; the SDK's processor would drop the oldest, and log each loss.
    """

    def __init__(self, exporter: SpanExporter, losses: Losses) -> None:
        self._losses = losses
        self._exports = losses.of_queue(SPANS_EXPORT, losses.span_slots)
        counted: Any = CountedExporter(exporter, self._exports)
        create_with_places(super().__init__, counted, losses.span_slots)

    def on_end(self, span: ReadableSpan) -> None:
        """Queues the span if it is sampled."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        if self._exports.take():
            super().on_end(span)
        elif self._exports.is_closed:
            self._losses.add(SPANS_EXPORT, 1)
        else:
            self._losses.no_slot(SPANS_QUEUE_FULL, "spans", OTEL_BSP_MAX_QUEUE_SIZE)

    def shutdown(self) -> None:
        """Exports what is queued, for as long as `Losses.end` allows."""
        shut_down_in_time(self, super().shutdown, self._losses, self._exports)


def span_processor(exporter: SpanExporter, losses: Losses) -> SpanProcessor:
    """Returns the processor that sends spans through `exporter`."""
    # On a console, a span should be seen when it ends, not five seconds later.
    if isinstance(exporter, ConsoleSpanExporter):
        counted: Any = CountedExporter(exporter, Exports(losses, SPANS_EXPORT))
        return SimpleSpanProcessor(counted)
    return CountedSpans(exporter, losses)


class PushReader(PeriodicExportingMetricReader):
    """The SDK's reader, extended: pushes nothing while the process has measured nothing.

    A supervisor is such a process. The points of a push that fails are counted as lost. With
    cumulative temporality, the default, no totals are lost: the next push repeats them.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        losses: Losses,
        is_idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_idle = is_idle  # set first: the SDK's constructor starts the thread
        self._can_reset = compatibility.holds(compatibility.PUSHES)
        counted: Any = CountedExporter(exporter, Exports(losses, METRICS_EXPORT), _points)
        super().__init__(counted)

    def _at_fork_reinit(self) -> None:
        # A push that is under way in the parent holds the lock; no thread of the child releases it.
        if self._can_reset:
            had_ended = self._shutdown_event.is_set()
            self._export_lock = threading.Lock()
            self._shutdown_event = threading.Event()
            if had_ended:  # the child's thread ends, as the parent's has
                self._shutdown_event.set()
        super()._at_fork_reinit()

    def _receive_metrics(self, *args: Any, **kwargs: Any) -> None:
        if not self._is_idle():
            super()._receive_metrics(*args, **kwargs)


def _points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
