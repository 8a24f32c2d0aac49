"""Snapshots of several workers into one: pure, and exact to the last bit.

Counters and histograms add up over all workers that ever lived. Their sums are rounded once, from
the exact sum (`math.fsum`), so that none falls by a rounding from one scrape to the next. What is
retired is kept as numbers whose exact sum is that of the workers it came from.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

from otel_coach.catalogue import CATALOGUE, Kind, Merge
from otel_coach.exposition.snapshot import Part, Snapshot, key_of, keyed, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Total = Callable[[Iterable[float]], float]
    _Column = tuple[int, int]
    """A snapshot, and the place of its numbers among those that add up to one value."""


def _sum(numbers: Iterable[float]) -> float:
    """The exact sum, rounded once; infinite where no float is so large."""
    parts = [*numbers]
    try:
        return math.fsum(parts)
    except ValueError:  # infinities of both signs
        return math.nan
    except OverflowError:
        exact = sum(map(Fraction, parts))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


_ADD_UP: Final = frozenset({"counter", "histogram", "summary", "gaugehistogram"})
_ONE_FOR_ALL: Final = frozenset({"info", "stateset"})
_OURS: Final[Mapping[str, Merge]] = {
    metric.prometheus_name: metric.merge for metric in CATALOGUE if metric.kind is Kind.GAUGE
}
_OF_PROCESSES: Final[Mapping[str, Total]] = {
    "process_virtual_memory_bytes": _sum,
    "process_resident_memory_bytes": _sum,
    "process_open_fds": _sum,
    "process_max_fds": max,
    "process_start_time_seconds": min,
    "python_info": max,
}
"""prometheus_client's own collectors: what their gauges mean for several processes."""

_ONLY: Final = (0, 0)
_PID: Final = "pid"
_CREATED: Final = "_created"


class Merged:
    """Snapshots that are being merged."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._added = 0

    def add(self, snapshot: Snapshot, worker: str = "", *, lives: bool = True) -> None:
        """Add what `worker`, whose name begins with its pid, measured."""
        self._added += 1
        pid = worker.partition("-")[0]
        for part in snapshot.parts:
            family = self._families.get(part.name)
            if family is None:
                family = self._families[part.name] = _Family(part)
            if family.type == part.type and (lives or family.outlives_workers):
                times = snapshot.gauge_times.get(part.name, {})
                family.add(part, (self._added, part.place), pid, times)

    def families(self) -> Iterator[Metric]:
        """The merged families, in the order in which the first snapshot has them."""
        return (family.merged() for family in self._families.values())

    def retired(self) -> Snapshot:
        """What stays when the workers are gone, each number in its exact parts."""
        families = [family for family in self._families.values() if family.outlives_workers]
        times = {
            family.name: {_label_values(key): at for key, at in family.times.items()}
            for family in families
            if family.times
        }
        return Snapshot([part for family in families for part in family.retired()], times)


class _Family:
    """All samples of one family, with the numbers of each worker."""

    def __init__(self, part: Part) -> None:
        self.name, self.documentation, self.type, self.unit = part[:4]
        self.times: dict[str, float] = {}
        """When a gauge was measured of which the latest counts."""
        self._columns: dict[_Column, dict[str, float]] = {}
        self._exemplars: dict[str, Exemplar] = {}
        self._adds_up = self.type in _ADD_UP
        self._is_latest = _OURS.get(self.name) is Merge.LATEST
        self._is_each_workers_own = not (
            self._adds_up
            or self.type in _ONE_FOR_ALL
            or self.name in _OURS
            or self.name in _OF_PROCESSES
        )

    @property
    def outlives_workers(self) -> bool:
        """Whether what a worker measured holds when it is dead."""
        return self._adds_up or self._is_latest

    def add(
        self, part: Part, where: _Column, pid: str, times: Mapping[tuple[str, ...], float]
    ) -> None:
        """Add what the worker `pid` measured at `times` to the column `where`."""
        if self.type == "info" and self._columns:
            return  # one service has one target_info
        if self._is_latest:
            self._add_latest(part, times)
            return
        column = self._columns.setdefault(where, {})
        if self._is_each_workers_own:
            for key, value in zip(part.keys, part.values, strict=True):
                name, labels = sample_of(key)
                column[key_of(name, {**labels, _PID: pid})] = value
        else:
            column.update(zip(part.keys, part.values, strict=True))
        for key, labels, value, at in part.exemplars:
            known = self._exemplars.get(key)
            if known is None or (at or 0) >= float(known.timestamp or 0):
                self._exemplars[key] = Exemplar(dict(labels), value, at)

    def _add_latest(self, part: Part, times: Mapping[tuple[str, ...], float]) -> None:
        column = self._columns.setdefault(_ONLY, {})
        for key, value in zip(part.keys, part.values, strict=True):
            at = times.get(_label_values(key), 0.0)
            if at >= self.times.get(key, -math.inf):
                column[key], self.times[key] = value, at

    def _numbers(self) -> Iterator[tuple[str, list[float]]]:
        """Of each sample, in the order in which the first worker has them."""
        columns = [*self._columns.values()]
        keys: dict[str, None] = {}
        for column in columns:
            keys.update(dict.fromkeys(column))
        return ((key, [column[key] for column in columns if key in column]) for key in keys)

    def merged(self) -> Metric:
        family = Metric(self.name, self.documentation, self.type, self.unit)
        total, exemplars = self._total(), self._exemplars
        for key, numbers in self._numbers():
            name, labels = sample_of(key)
            value = min(numbers) if self._is_time_of_creation(name) else total(numbers)
            family.samples.append(Sample(name, labels, value, None, exemplars.get(key)))
        return family

    def _total(self) -> Total:
        if self._adds_up or _OURS.get(self.name) is Merge.SUM:
            return _sum
        return _OF_PROCESSES.get(self.name, max)

    def _is_time_of_creation(self, sample_name: str) -> bool:
        return self._adds_up and sample_name.endswith(_CREATED)

    def retired(self) -> Iterator[Part]:
        """A number that one float cannot hold is spread over several parts."""
        places: list[dict[str, float]] = [{}]
        for key, numbers in self._numbers():
            name, _ = sample_of(key)
            exact = [min(numbers)] if self._is_time_of_creation(name) else _exact(numbers)
            places += [{} for _ in exact[len(places) :]]
            for column, number in zip(places, exact, strict=False):
                column[key] = number
        about = self.name, self.documentation, self.type, self.unit
        exemplars = [keyed(key, exemplar) for key, exemplar in self._exemplars.items()]
        for place, column in enumerate(places):
            yield Part(*about, [*column], [*column.values()], [] if place else exemplars, place)


def _label_values(key: str) -> tuple[str, ...]:
    return tuple(sample_of(key)[1].values())


def _exact(parts: list[float]) -> list[float]:
    """As few floats as have the exact sum of `parts` (Shewchuk's expansion)."""
    if not all(map(math.isfinite, parts)):
        return [sum(parts)]
    if math.isinf(sum(map(abs, parts))):
        return parts  # no float holds what would be left over
    expansion: list[float] = []
    for part in parts:
        rest: list[float] = []
        value = part
        for other in expansion:
            larger, smaller = (value, other) if abs(value) >= abs(other) else (other, value)
            value = larger + smaller
            if low := smaller - (value - larger):
                rest.append(low)
        expansion = [*rest, value]
    return expansion
