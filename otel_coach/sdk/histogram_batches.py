"""Records many measurements that fall into one bucket of a histogram as one.

For each measurement, and for each reader, the SDK checks and hashes the attributes, which costs
many times what counting costs. The API has no call for several measurements. So otel-coach's View
uses an aggregation of its own: the SDK's, extended to accept a `Batch`. It relies on parts of the
SDK that are not public; `takes_batches` tries them, and where they have changed, each measurement
is recorded by itself.
"""

# ruff: noqa: SLF001 - see above

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DefaultAggregation,
    ExplicitBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource

from otel_coach.core import compatibility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.metrics.export import MetricReader


class Batch(float):
    """Several measurements of one bucket; as a float, the one that an exemplar shows."""

    __slots__ = ("count", "least", "most", "sum")

    count: int
    sum: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float], shown: float) -> Batch:
        """Returns the batch of `values`; `shown` is the one for an exemplar."""
        batch = cls(shown)
        batch.count, batch.sum = len(values), math.fsum(values)
        batch.least, batch.most = min(values), max(values)
        return batch


def batching(readers: Iterable[MetricReader] = ()) -> Aggregation | None:
    """Returns the aggregation for a View whose histograms accept a `Batch`; None if unavailable.

    A View's aggregation overrides the one that a reader prefers (which an exporter's settings may
    determine). So it is unavailable if any of `readers` does not prefer the SDK's default.
    """
    if not compatibility.holds(compatibility.BATCHES):
        return None
    return _Batching(_batching_histogram()) if all(map(_prefers_default, readers)) else None


def takes_batches() -> bool:
    """Returns whether the SDK's private parts are as expected: a batch is counted correctly."""
    _prefers_default(InMemoryMetricReader())
    return _counts_batches(_Batching(_batching_histogram()))


def _prefers_default(reader: Any) -> bool:
    return all(
        type(preferred) is DefaultAggregation
        # Or the default for histograms, named explicitly, which uses the advised buckets.
        or (issubclass(kind, Histogram) and _is_default_by_name(preferred))
        for kind, preferred in reader._instrument_class_aggregation.items()
    )


def _is_default_by_name(preferred: Aggregation) -> bool:
    by_name = ExplicitBucketHistogramAggregation()
    return type(preferred) is type(by_name) and vars(preferred) == vars(by_name)


class _Batching(Aggregation):
    """The SDK's default aggregation, except that a histogram accepts a `Batch`."""

    def __init__(self, histogram: Callable[..., Any]) -> None:
        self._histogram = histogram
        default: Any = DefaultAggregation()
        self._default = default._create_aggregation

    def _create_aggregation(
        self, instrument: Any, attributes: Any, reservoir_factory: Any, start_time_unix_nano: int
    ) -> Any:
        if not isinstance(instrument, Histogram):
            return self._default(instrument, attributes, reservoir_factory, start_time_unix_nano)
        advised: Any = instrument
        return self._histogram(
            attributes,
            reservoir_builder=reservoir_factory(self._histogram),
            instrument_aggregation_temporality=AggregationTemporality.DELTA,
            boundaries=advised._advisory.explicit_bucket_boundaries,
            start_time_unix_nano=start_time_unix_nano,
        )


def _batching_histogram() -> type:
    from opentelemetry.sdk.metrics._internal import aggregation  # noqa: PLC0415 - not public

    base: Any = aggregation._ExplicitBucketHistogramAggregation  # pyright: ignore[reportPrivateUsage]

    class BatchingHistogram(base):
        """The SDK's explicit-bucket histogram, which can also add a `Batch` in one step."""

        def aggregate(self, measurement: Any, should_sample_exemplar: bool = True) -> None:  # noqa: FBT001, FBT002 - the SDK's signature
            batch = measurement.value
            if type(batch) is not Batch:
                super().aggregate(measurement, should_sample_exemplar)
                return
            with self._lock:
                if self._value is None:
                    self._value = self._get_empty_bucket_counts()
                self._value[bisect_left(self._boundaries, batch)] += batch.count
                self._sum += batch.sum
                self._min = min(self._min, batch.least)
                self._max = max(self._max, batch.most)
            self._sample_exemplar(measurement, should_sample_exemplar)

    return BatchingHistogram


def _counts_batches(aggregation: Aggregation) -> bool:
    """Returns whether `aggregation` counts a batch like its single measurements."""
    reader = InMemoryMetricReader()
    views = [View(instrument_name="*", aggregation=aggregation)]
    provider = MeterProvider([reader], Resource.get_empty(), views=views, shutdown_on_exit=False)
    histogram = provider.get_meter("otel_coach").create_histogram(
        "tried", explicit_bucket_boundaries_advisory=[1.0, 2.0]
    )
    histogram.record(0.5)
    histogram.record(Batch.of([1.25, 1.5, 2.0], 1.5))
    found: Any = reader.get_metrics_data()
    provider.shutdown()
    (point,) = found.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    counted = (point.count, point.sum, point.min, point.max, tuple(point.bucket_counts))
    return counted == (4, 5.25, 0.5, 2.0, (1, 3, 0))
