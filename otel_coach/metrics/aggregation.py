"""Adds up measurements by series, so that many of them reach the SDK as one.

Calling the SDK for each measurement would cost many times as much as the counting itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context, create_key

from otel_coach.core.spans import is_sampled
from otel_coach.metrics.catalogue import InstrumentKind, Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NO_CONTEXT: Final = Context({create_key("otel_coach.no_context"): True})
"""Context for measurements without a span, so that they do not get the flushing thread's span.

It is not empty, because the SDK replaces an empty context by the current one.
"""
_MAX_BUCKET: Final = 1000
"""With this many pending values a bucket is emitted immediately, which bounds the memory."""

Series = tuple[Metric, tuple[str, ...]]
"""A metric and its label values."""
_Bucket = tuple[Series, int]
"""A histogram's series, and the index of one of its buckets."""


@dataclass
class Increments:
    """The increases of counters and histograms."""

    counters: dict[Series, float] = field(default_factory=dict[Series, float])
    counts: dict[Series, list[int]] = field(default_factory=dict[Series, list[int]])
    """The number of values in each bucket, by a histogram's series."""
    sums: dict[Series, float] = field(default_factory=dict[Series, float])
    """The sum of those values, by the same series."""

    def counted(self, series: Series, value: float) -> None:
        """Adds `value` to a counter."""
        if 0 < value < math.inf:  # else the counter does not rise, or the SDK rejects the value
            self.counters[series] = self.counters.get(series, 0) + value

    def measured(self, bucket: _Bucket, values: Sequence[float]) -> None:
        """Adds `values` to a histogram's bucket."""
        series, index = bucket
        if series not in self.counts:
            self.counts[series] = [0] * (len(series[0].buckets) + 1)
        self.counts[series][index] += len(values)
        self.sums[series] = math.fsum((self.sums.get(series, 0.0), *values))

    def __bool__(self) -> bool:
        return bool(self.counters or self.counts)


class Aggregation:
    """Adds up measurements, and emits them to the instruments.

    Args:
        instruments: by metric, a function that takes a value, its attributes and its context.
        batch: combines the values of a bucket into one measurement; its second argument is the
            value that an exemplar may show. None if the instruments take single measurements only.
    """

    def __init__(
        self,
        instruments: Mapping[Metric, Callable[..., None]],
        batch: Callable[[Sequence[float], float], float] | None,
    ) -> None:
        self._instruments = instruments
        self._batch = batch
        self._sums: dict[Series, float] = {}
        """Pending sums of counters: one for each series, however often it was counted."""
        self._gathered: dict[_Bucket, list[float]] = {}
        """Pending values of histograms."""
        self._traced: dict[_Bucket, tuple[float, Context]] = {}
        """The last pending value that was measured inside a sampled span, with its context."""
        self.increments: Increments | None = None
        """What was emitted since the recorder last reset this; None if it is not kept."""

    def __bool__(self) -> bool:
        return bool(self._sums or self._gathered)

    def add(self, series: Series, value: float, context: Context | None) -> None:
        """Adds one measurement."""
        metric = series[0]
        if metric.kind is InstrumentKind.COUNTER:
            self._sums[series] = self._sums.get(series, 0) + value
            return
        bucket = series, bisect_left(metric.buckets, value)
        is_invalid = not 0 <= value < math.inf  # the SDK gets it, rejects it, and logs why
        if self._batch is None or is_invalid:
            self._instruments[metric](value, attributes(*series), context or NO_CONTEXT)
            if self.increments is not None and not is_invalid:
                self.increments.measured(bucket, [value])
            return
        gathered = self._gathered.setdefault(bucket, [])
        gathered.append(value)
        if context is not None and is_sampled(context):
            self._traced[bucket] = value, context
        if len(gathered) >= _MAX_BUCKET:
            self._emit_bucket(bucket, self._gathered.pop(bucket))

    def emit(self) -> None:
        """Emits one counter's sum, or else one histogram bucket's values, to the instrument."""
        if self._sums:
            series, value = self._sums.popitem()
            self._instruments[series[0]](value, attributes(*series), NO_CONTEXT)
            if self.increments is not None:
                self.increments.counted(series, value)
        else:
            self._emit_bucket(*self._gathered.popitem())

    def clear(self) -> None:
        """Discards everything that is pending, and the increments."""
        self._sums.clear()
        self._gathered.clear()
        self._traced.clear()
        if self.increments is not None:
            self.increments = Increments()

    def _emit_bucket(self, bucket: _Bucket, gathered: list[float]) -> None:
        shown, context = self._traced.pop(bucket, (gathered[-1], NO_CONTEXT))
        (metric, labels), _ = bucket
        value = self._batch(gathered, shown) if self._batch else shown
        self._instruments[metric](value, attributes(metric, labels), context)
        if self.increments is not None:
            self.increments.measured(bucket, gathered)


def attributes(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    """Returns the attributes of a measurement: the metric's label keys with their values."""
    return dict(zip(metric.labels, labels, strict=True))
