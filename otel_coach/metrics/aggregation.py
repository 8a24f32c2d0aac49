"""Adds up measurements by series, so that many of them reach the SDK as one.

Calling the SDK for each measurement would cost many times as much as the counting itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

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
"""This many pending values of a bucket are combined, which bounds the memory."""
_MAX_COMBINED: Final = 1000
"""If more combined values than this are pending, the oldest is emitted at once. Otherwise the
memory would grow while a collection hangs."""

Series = tuple[Metric, tuple[str, ...]]
"""A metric and its label values."""
_Bucket = tuple[Series, int]
"""A histogram's series, and the index of one of its buckets."""


class _Combined(NamedTuple):
    """Values of one bucket that the instrument gets as one measurement."""

    bucket: _Bucket
    value: float
    """The measurement."""
    context: Context
    number: int
    sum: float


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

    def measured(self, combined: _Combined) -> None:
        """Adds values of a histogram's bucket."""
        series, index = combined.bucket
        if series not in self.counts:
            self.counts[series] = [0] * (len(series[0].buckets) + 1)
        self.counts[series][index] += combined.number
        self.sums[series] = self.sums.get(series, 0.0) + combined.sum

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
        """The last of these values that was measured inside a sampled span, with its context."""
        self._combined: deque[_Combined] = deque()
        """Pending values that are combined already."""
        self.is_held = False
        """Whether a collection is reading the SDK's totals: it may also read what is emitted now,
        which must then not become an increment."""
        self.increments: Increments | None = None
        """What was emitted since the recorder last reset this; None if it is not kept."""

    def __bool__(self) -> bool:
        return bool(self._sums or self._gathered or self._combined)

    def add(self, series: Series, value: float, context: Context | None) -> None:
        """Adds one measurement."""
        metric = series[0]
        if metric.kind is InstrumentKind.COUNTER:
            self._sums[series] = self._sums.get(series, 0) + value
            return
        if not 0 <= value < math.inf:  # the SDK gets it now, rejects it, and logs why
            self._instruments[metric](value, attributes(*series), context or NO_CONTEXT)
            return
        bucket = series, bisect_left(metric.buckets, value)
        gathered = self._gathered.setdefault(bucket, [])
        gathered.append(value)
        if context is not None and (self._batch is None or is_sampled(context)):
            self._traced[bucket] = value, context
        if self._batch is None or len(gathered) >= _MAX_BUCKET:
            self._combined.append(self._combine(bucket))
            if len(self._combined) > _MAX_COMBINED:
                # During a collection it is not kept as an increment: the collection may read it
                # from the SDK, and it would count twice. If the collection has read past it, the
                # page is too low until the next one.
                self._emit_combined(self._combined.popleft(), counts=not self.is_held)

    def emit(self) -> None:
        """Emits one counter's sum, or else one histogram bucket's values, to the instrument."""
        if self._sums:
            series, value = self._sums.popitem()
            self._instruments[series[0]](value, attributes(*series), NO_CONTEXT)
            if self.increments is not None:
                self.increments.counted(series, value)
        elif self._combined:
            self._emit_combined(self._combined.popleft())
        else:
            self._emit_combined(self._combine(next(iter(self._gathered))))

    def clear(self) -> None:
        """Discards everything that is pending, and the increments."""
        self._sums.clear()
        self._gathered.clear()
        self._traced.clear()
        self._combined.clear()
        if self.increments is not None:
            self.increments = Increments()

    def _combine(self, bucket: _Bucket) -> _Combined:
        gathered = self._gathered.pop(bucket)
        shown, context = self._traced.pop(bucket, (gathered[-1], NO_CONTEXT))
        value = self._batch(gathered, shown) if self._batch else shown
        return _Combined(bucket, value, context, len(gathered), math.fsum(gathered))

    def _emit_combined(self, combined: _Combined, *, counts: bool = True) -> None:
        series, _ = combined.bucket
        self._instruments[series[0]](combined.value, attributes(*series), combined.context)
        if counts and self.increments is not None:
            self.increments.measured(combined)


def attributes(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    """Returns the attributes of a measurement: the metric's label keys with their values."""
    return dict(zip(metric.labels, labels, strict=True))
