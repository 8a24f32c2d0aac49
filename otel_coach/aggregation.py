"""Measurements added up by series, so that the SDK gets many of them as one.

One call of the SDK for each would cost many times what it is to count.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context, create_key

from otel_coach.catalogue import Kind, Metric
from otel_coach.tracing import is_sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NOWHERE: Final = Context({create_key("otel_coach.nowhere"): True})
"""Context of measurements without a span, so that they do not get the flushing thread's span.

Not empty: the SDK takes the current context in the place of an empty one.
"""
_MAX_BUCKET: Final = 1000
"""So many values of a bucket are handed on at once: what waits is bounded at any rate."""

Series = tuple[Metric, tuple[str, ...]]
"""A metric and its label values."""
_Bucket = tuple[Series, int]
"""Of a histogram."""


@dataclass
class Increments:
    """By how much series rose."""

    counters: dict[Series, float] = field(default_factory=dict[Series, float])
    counts: dict[Series, list[int]] = field(default_factory=dict[Series, list[int]])
    """Of histograms, by bucket."""
    sums: dict[Series, float] = field(default_factory=dict[Series, float])
    """Of the same histograms."""

    def counted(self, series: Series, value: float) -> None:
        """A counter rose."""
        if 0 < value < math.inf:  # else it rose by nothing, or the SDK refuses it
            self.counters[series] = self.counters.get(series, 0) + value

    def measured(self, bucket: _Bucket, values: Sequence[float]) -> None:
        """A bucket of a histogram got `values`."""
        series, place = bucket
        if series not in self.counts:
            self.counts[series] = [0] * (len(series[0].buckets) + 1)
        self.counts[series][place] += len(values)
        self.sums[series] = math.fsum((self.sums.get(series, 0.0), *values))

    def __bool__(self) -> bool:
        return bool(self.counters or self.counts)


class Aggregation:
    """Adds measurements up, and hands them to the instruments.

    Args:
        instruments: what a measurement of a metric is handed to, with its attributes and context.
        batch: makes one measurement of several of one bucket, and the one that an exemplar may
            show; None where the instruments take them one by one only.
    """

    def __init__(
        self,
        instruments: Mapping[Metric, Callable[..., None]],
        batch: Callable[[Sequence[float], float], float] | None,
    ) -> None:
        self._instruments = instruments
        self._batch = batch
        self._sums: dict[Series, float] = {}
        """What counters are to be raised by: once for each series, however often it was counted."""
        self._gathered: dict[_Bucket, list[float]] = {}
        """What histograms are to be told, by bucket."""
        self._traced: dict[_Bucket, tuple[float, Context]] = {}
        """The last of them that a sampled span was around."""
        self.increments: Increments | None = None
        """What was handed on since somebody took it; None where nobody does."""

    def __bool__(self) -> bool:
        return bool(self._sums or self._gathered)

    def add(self, series: Series, value: float, context: Context | None) -> None:
        """Add one measurement."""
        metric = series[0]
        if metric.kind is Kind.COUNTER:
            self._sums[series] = self._sums.get(series, 0) + value
            return
        bucket = series, bisect_left(metric.buckets, value)
        is_refused = not 0 <= value < math.inf  # by the SDK, which is to say so
        if self._batch is None or is_refused:
            self._instruments[metric](value, attributes(*series), context or NOWHERE)
            if self.increments is not None and not is_refused:
                self.increments.measured(bucket, [value])
            return
        gathered = self._gathered.setdefault(bucket, [])
        gathered.append(value)
        if context is not None and is_sampled(context):
            self._traced[bucket] = value, context
        if len(gathered) >= _MAX_BUCKET:
            self._hand_on_bucket(bucket, self._gathered.pop(bucket))

    def hand_on(self) -> None:
        """Hand one series to its instrument."""
        if self._sums:
            series, value = self._sums.popitem()
            self._instruments[series[0]](value, attributes(*series), NOWHERE)
            if self.increments is not None:
                self.increments.counted(series, value)
        else:
            self._hand_on_bucket(*self._gathered.popitem())

    def clear(self) -> None:
        """Forget all."""
        self._sums.clear()
        self._gathered.clear()
        self._traced.clear()
        if self.increments is not None:
            self.increments = Increments()

    def _hand_on_bucket(self, bucket: _Bucket, gathered: list[float]) -> None:
        shown, context = self._traced.pop(bucket, (gathered[-1], NOWHERE))
        (metric, labels), _ = bucket
        value = self._batch(gathered, shown) if self._batch else shown
        self._instruments[metric](value, attributes(metric, labels), context)
        if self.increments is not None:
            self.increments.measured(bucket, gathered)


def attributes(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    """Of a measurement."""
    return dict(zip(metric.labels, labels, strict=True))
