"""The increments of otel-coach's own metrics since the last measurement, as parts of a snapshot.

A worker writes them regularly, so that little is lost when it is killed. Series have the names
that the SDK's reader gives them, but nothing is collected from the SDK: the cost of a collection
grows with the number of all series, not of those that changed.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from otel_coach.prometheus.snapshot import Effect, Part, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_coach.metrics.aggregation import Increments, Series
    from otel_coach.metrics.catalogue import Metric


def increments(taken: Increments) -> Iterator[Part]:
    """Yields the increments of counters and histograms."""
    rises: dict[Metric, dict[str, float]] = {}
    for series, rise in taken.counters.items():
        metric = series[0]
        key = key_of(metric.prometheus_name, _labels(series))
        rises.setdefault(metric, {})[key] = rise
    for series, counts in taken.counts.items():
        metric = series[0]
        name, labels, found = metric.prometheus_name, _labels(series), rises.setdefault(metric, {})
        cumulative = [*accumulate(counts)]
        # Buckets that did not rise are included: a new series must have its buckets in order.
        for bound, count in zip((*metric.buckets, "+Inf"), cumulative, strict=True):
            found[key_of(f"{name}_bucket", {**labels, "le": str(bound)})] = count
        found[key_of(f"{name}_count", labels)] = cumulative[-1]
        found[key_of(f"{name}_sum", labels)] = taken.sums[series]
    for metric, found in rises.items():
        yield _part(metric, Effect.ADD, found)


class TimedGauges:
    """The times at which the last written values of gauges were measured."""

    def __init__(self) -> None:
        self._known: dict[Metric, Mapping[tuple[str, ...], float]] = {}

    def changed(
        self,
        metric: Metric,
        values: Mapping[tuple[str, ...], float],
        times: Mapping[tuple[str, ...], float],
    ) -> Iterator[Part]:
        """Yields a part with the values of `metric` that were measured since the last call."""
        known = self._known.get(metric, {})
        self._known[metric] = {**times}
        new = [labels for labels in values if times.get(labels) != known.get(labels)]
        if new:
            name = metric.prometheus_name
            found = {key_of(name, _labels((metric, labels))): values[labels] for labels in new}
            part = _part(metric, Effect.UPDATE, found)
            yield part._replace(times=[times.get(labels, 0.0) for labels in new])


def _labels(series: Series) -> dict[str, str]:
    """Returns the labels, sorted by name as OpenTelemetry's Prometheus reader sorts them."""
    metric, values = series
    return dict(sorted(zip(metric.labels, values, strict=True)))


def _part(metric: Metric, effect: Effect, found: Mapping[str, float]) -> Part:
    name = metric.prometheus_name.removesuffix("_total")
    kind = metric.kind.value
    return Part(name, metric.help, kind, "", [*found], [*found.values()], effect=effect)
