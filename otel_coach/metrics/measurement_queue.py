"""The queue of finished measurements, before they are added up and emitted to the SDK."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context

    from otel_coach.metrics.catalogue import Metric


class MeasurementQueue(deque[tuple[Any, Any, Any, "Context | None"]]):
    """A deque, because any thread may append at any moment, even in a finaliser inside the SDK.

    An item is a measurement, (metric, value, labels, context), or deferred work that may record
    measurements itself, (function, first argument, second argument, None).
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        """How many items have been taken out so far."""

    @property
    def total(self) -> int:
        """How many items have been appended so far."""
        return self.taken + len(self)

    def put(
        self,
        metric: Metric,
        value: float,
        labels: tuple[object, ...] = (),
        context: Context | None = None,
    ) -> None:
        """Appends a measurement of `metric`, with label values in the order of `metric.labels`."""
        self.append((metric, value, labels, context))

    def take(self) -> Iterator[tuple[Any, Any, Any, Context | None]]:
        """Takes items out until the queue is empty, and yields them."""
        while self:
            item = self.popleft()
            self.taken += 1
            yield item
