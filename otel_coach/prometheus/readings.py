"""Computes the figures of the overview's sections from pages in Prometheus' text format.

The quantiles are those of PromQL's `histogram_quantile`: linear within a bucket; one that falls
into the last bucket, which has no end, is that bucket's beginning. Of several services, each is
compared with its own earlier page, so that one that restarts, or cannot be read for a while,
changes no rate of the others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from otel_coach.prometheus.overview import How, count_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_coach.prometheus.overview import Column, Section

    Key = tuple[str, ...]

_QUANTILES: Final = {How.MEDIAN: 0.5, How.P95: 0.95}
_SECONDS_OF: Final = {How.RATE: 1.0, How.HOURLY: 3600.0}


@dataclass(frozen=True)
class Reading:
    """The samples of a service's page, and when it was read.

    Raises:
        ValueError: `text` is not in Prometheus' text format.
    """

    text: str
    at: float
    """Seconds of a clock that is never adjusted."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                samples[sample.name].append((sample.labels, sample.value))
        object.__setattr__(self, "samples", samples)

    def values(
        self, name: str, labels: Sequence[str], where: Mapping[str, tuple[str, ...]]
    ) -> Iterator[tuple[Key, float]]:
        """Yields the values of `labels` and the value of each sample called `name`."""
        for found, value in self.samples.get(name, ()):
            if all(_matches(found.get(label, ""), values) for label, values in where.items()):
                yield tuple(found.get(label, "") for label in labels), value


class Interval(NamedTuple):
    """A service's page now, and its page before; rates are those between the two."""

    now: Reading
    before: Reading | None = None

    @property
    def seconds(self) -> float:
        """The time between the two readings; 0 if there is only one."""
        return 0.0 if self.before is None else self.now.at - self.before.at


Row = tuple["Key", list[float]]
"""The values of the section's labels, and of its columns; nan where there is nothing to show."""


def rows(section: Section, services: Sequence[Interval]) -> list[Row]:
    """Returns the rows of `section`, those with the largest first figure first.

    Rates and quantiles are those of the intervals; where no service has been read before, there
    are no rates, and the quantiles are those since the start of the services. The quantiles of a
    row without an observation in the intervals are those since the start, too.
    """
    columns = [(column, _figures(section.by, column, services)) for column in section.columns]
    keys = {
        key
        for column, figures in columns
        for key, value in figures.items()
        if value > 0 or column.how is How.LOWEST  # 0 means that a dependency is down
    }
    if not section.by:
        keys.add(())
    found = [
        (key, [figures.get(key, column.if_absent) for column, figures in columns]) for key in keys
    ]
    return sorted(found, key=lambda row: (-_or_zero(row[1][0]), row[0]))


def _figures(by: Sequence[str], column: Column, services: Sequence[Interval]) -> dict[Key, float]:
    how, name = column.how, count_name(column.metric)
    if (share := _QUANTILES.get(how)) is not None:
        return _quantiles(share, f"{column.metric.prometheus_name}_bucket", by, services)
    if (seconds := _SECONDS_OF.get(how)) is not None:
        return _rates(seconds, name, by, column.where, services)
    values = [pair for one in services for pair in one.now.values(name, by, column.where)]
    if how is How.LOWEST:
        lowest: dict[Key, float] = {}
        for key, value in values:
            lowest[key] = min(value, lowest.get(key, value))
        return lowest
    totals = _sums(values)
    if how is How.RATIO and column.per is not None:
        per = count_name(column.per)
        whole = _sums(pair for one in services for pair in one.now.values(per, by, {}))
        return {key: value / whole[key] for key, value in totals.items() if whole.get(key)}
    return totals


def _rates(
    seconds: float,
    name: str,
    by: Sequence[str],
    where: Mapping[str, tuple[str, ...]],
    services: Sequence[Interval],
) -> dict[Key, float]:
    """Returns the increases per `seconds`, of the services that have been read before."""
    rates: dict[Key, float] = defaultdict(float)
    for one in services:
        if one.before is None or one.seconds <= 0:
            continue
        earlier = _sums(one.before.values(name, by, where))
        for key, value in _sums(one.now.values(name, by, where)).items():
            rates[key] += _increase(value, earlier.get(key, 0.0)) / one.seconds * seconds
    return rates


def _quantiles(
    share: float, name: str, by: Sequence[str], services: Sequence[Interval]
) -> dict[Key, float]:
    lately = _buckets(name, by, [one for one in services if one.before is not None])
    found: dict[Key, float] = {}
    for key, buckets in _buckets(name, by, [Interval(one.now) for one in services]).items():
        recent = lately.get(key, [(math.inf, 0.0)])
        found[key] = _quantile(share, recent if recent[-1][1] > 0 else buckets)
    return found


def _buckets(
    name: str, by: Sequence[str], services: Iterable[Interval]
) -> dict[Key, list[tuple[float, float]]]:
    """Returns the cumulative counts of the intervals by their upper bounds, sorted."""
    labels = (*by, "le")
    counts: dict[Key, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for one in services:
        earlier = {} if one.before is None else _sums(one.before.values(name, labels, {}))
        for (*key, bound), value in _sums(one.now.values(name, labels, {})).items():
            increase = _increase(value, earlier.get((*key, bound), 0.0))
            counts[tuple(key)][float(bound)] += increase
    return {key: sorted(bounds.items()) for key, bounds in counts.items()}


def _quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    """Returns the quantile of cumulative counts by their upper bounds, nan if there are none."""
    rank = share * buckets[-1][1]
    if rank <= 0:
        return math.nan
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _sums(values: Iterable[tuple[Key, float]]) -> dict[Key, float]:
    sums: dict[Key, float] = defaultdict(float)
    for key, value in values:
        sums[key] += value
    return sums


def _increase(value: float, earlier: float) -> float:
    """Returns by how much a counter has increased; after a restart it began at 0."""
    return value - earlier if value >= earlier else value


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(
        value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
        for pattern in patterns
    )


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
