"""Snapshots of several workers into one: pure, and exact to the last bit.

Counters and histograms add up over all workers that ever lived. Their sums are rounded once, from
the exact sum (`math.fsum`), so that none falls by a rounding from one scrape to the next. What is
retired is kept as numbers whose exact sum is that of the workers it came from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

from otel_coach.catalogue import CATALOGUE, Kind, Merge
from otel_coach.exposition.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""

_ADD_UP: Final = frozenset({"counter", "histogram", "summary", "gaugehistogram"})
_OURS: Final[Mapping[str, Merge]] = {
    metric.prometheus_name: metric.merge for metric in CATALOGUE if metric.kind is Kind.GAUGE
}
_OF_PROCESSES: Final[Mapping[str, Callable[[Iterable[float]], float]]] = {
    "process_virtual_memory_bytes": math.fsum,
    "process_resident_memory_bytes": math.fsum,
    "process_open_fds": math.fsum,
    "process_max_fds": max,
    "process_start_time_seconds": min,
    "python_info": max,
}
"""prometheus_client's own collectors: what their gauges mean for several processes."""

_PID: Final = "pid"
_CREATED: Final = "_created"


@dataclass
class _Series:
    """One sample of the merged page, as the parts that it is made of."""

    labels: dict[str, str]
    parts: list[float] = field(default_factory=list[float])
    exemplar: Exemplar | None = None
    at: float = -math.inf


def merge(snapshots: Iterable[Snapshot]) -> list[Metric]:
    """One page of all snapshots, in the order in which the first of them has its families."""
    merged = Merged()
    for snapshot in snapshots:
        merged.add(snapshot)
    return merged.families()


class Merged:
    """Snapshots that are being merged."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}
        self._series: dict[str, dict[_Key, _Series]] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Add what one worker measured."""
        for family in snapshot.families:
            sleep(0)  # lets the event loop's thread run
            known = self._families.get(family.name)
            if known is None:
                known = Metric(family.name, family.documentation, family.type, family.unit)
                self._families[family.name] = known
                self._series[family.name] = {}
            if known.type == family.type:
                self._add(family, snapshot)

    def _add(self, family: Metric, snapshot: Snapshot) -> None:
        series = self._series[family.name]
        adds_up = family.type in _ADD_UP
        if not adds_up and not snapshot.lives and _OURS.get(family.name) is not Merge.LATEST:
            return
        by_worker = not adds_up and family.name not in _OURS and family.name not in _OF_PROCESSES
        if family.type == "info" and series:
            return  # one service has one target_info
        times = snapshot.gauge_times.get(family.name, {})
        for sample in family.samples:
            labels = sample.labels
            if by_worker and family.type not in {"info", "stateset"}:
                labels = {**labels, _PID: snapshot.worker.partition("-")[0]}
            key = (sample.name, tuple(labels.items()))
            one = series.get(key)
            if one is None:
                one = series[key] = _Series(labels)
            _put(one, sample, family, times.get(tuple(labels.values()), 0.0))

    def families(self) -> list[Metric]:
        """The merged families."""
        for name, family in self._families.items():
            sleep(0)
            total = _total(family)
            family.samples = [
                Sample(
                    sample_name,
                    one.labels,
                    _once(sample_name, total)(one.parts),
                    None,
                    one.exemplar,
                )
                for (sample_name, _), one in self._series[name].items()
            ]
        return list(self._families.values())

    def retired(self) -> Snapshot:
        """What stays when the workers are gone, each number in its exact parts.

        A number that one float cannot hold becomes several samples of the same labels.
        """
        retired = Snapshot("retired", [], lives=False)
        for name, family in self._families.items():
            is_latest = _OURS.get(name) is Merge.LATEST
            if family.type not in _ADD_UP and not is_latest:
                continue
            series = self._series[name]
            family.samples = [
                Sample(sample_name, one.labels, part, None, one.exemplar if place == 0 else None)
                for (sample_name, _), one in series.items()
                for place, part in enumerate(_exact(sample_name, one.parts))
            ]
            retired.families.append(family)
            if is_latest:
                times = {tuple(one.labels.values()): one.at for one in series.values()}
                retired.gauge_times[name] = times
        return retired


def _put(one: _Series, sample: Sample, family: Metric, at: float) -> None:
    if _OURS.get(family.name) is Merge.LATEST:
        if at >= one.at:
            one.parts, one.at = [sample.value], at
        return
    one.parts.append(sample.value)
    exemplar = sample.exemplar
    if exemplar is not None and (one.exemplar is None or _time(exemplar) >= _time(one.exemplar)):
        one.exemplar = exemplar


def _time(exemplar: Exemplar) -> float:
    return float(exemplar.timestamp or 0)


def _total(family: Metric) -> Callable[[Iterable[float]], float]:
    if family.type in _ADD_UP or _OURS.get(family.name) is Merge.SUM:
        return math.fsum
    return _OF_PROCESSES.get(family.name, max)


def _once(
    sample_name: str, total: Callable[[Iterable[float]], float]
) -> Callable[[Iterable[float]], float]:
    # When a series was created is no amount.
    return min if sample_name.endswith(_CREATED) else total


def _exact(sample_name: str, parts: list[float]) -> list[float]:
    """As few floats as have the exact sum of `parts` (Shewchuk's expansion)."""
    if sample_name.endswith(_CREATED):
        return [min(parts)]
    if not all(map(math.isfinite, parts)):
        return [sum(parts)]
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
