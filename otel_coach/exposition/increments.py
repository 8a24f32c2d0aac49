"""By how much our own figures rose since they were measured, as parts of a snapshot.

A worker writes them now and then, so that little is lost where it is killed. They name series as
the reader of the SDK does, without asking the SDK: that would cost what exists, not what changed.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from otel_coach.exposition.snapshot import How, Part, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_coach.aggregation import Increments, Series
    from otel_coach.catalogue import Metric


def increments(taken: Increments) -> Iterator[Part]:
    """Those of counters and histograms."""
    rises: dict[Metric, dict[str, float]] = {}
    for series, rise in taken.counters.items():
        metric = series[0]
        key = key_of(metric.prometheus_name, _labels(series))
        rises.setdefault(metric, {})[key] = rise
    for series, counts in taken.counts.items():
        metric = series[0]
        name, labels, found = metric.prometheus_name, _labels(series), rises.setdefault(metric, {})
        cumulative = [*accumulate(counts)]
        # Those that did not rise, too: a series that is new has to have its buckets in their order.
        for bound, count in zip((*metric.buckets, "+Inf"), cumulative, strict=True):
            found[key_of(f"{name}_bucket", {**labels, "le": str(bound)})] = count
        found[key_of(f"{name}_count", labels)] = cumulative[-1]
        found[key_of(f"{name}_sum", labels)] = taken.sums[series]
    for metric, found in rises.items():
        yield _part(metric, How.ADD, found)


class TimedGauges:
    """Gauges of which the latest counts, as they were written last."""

    def __init__(self) -> None:
        self._known: dict[Metric, Mapping[tuple[str, ...], float]] = {}

    def changed(
        self,
        metric: Metric,
        values: Mapping[tuple[str, ...], float],
        times: Mapping[tuple[str, ...], float],
    ) -> Iterator[Part]:
        """The part of those that were measured since the last call."""
        known = self._known.get(metric, {})
        self._known[metric] = {**times}
        new = [labels for labels in values if times.get(labels) != known.get(labels)]
        if new:
            name = metric.prometheus_name
            found = {key_of(name, _labels((metric, labels))): values[labels] for labels in new}
            part = _part(metric, How.UPDATE, found)
            yield part._replace(times=[times.get(labels, 0.0) for labels in new])


def _labels(series: Series) -> dict[str, str]:
    """As the stock reader orders them: by name."""
    metric, values = series
    return dict(sorted(zip(metric.labels, values, strict=True)))


def _part(metric: Metric, how: How, found: Mapping[str, float]) -> Part:
    name = metric.prometheus_name.removesuffix("_total")
    kind = metric.kind.value
    return Part(name, metric.help, kind, "", [*found], [*found.values()], how=how)
