"""Snapshots of several workers into one, at the cost of what changed.

Counters and histograms add up over all workers that ever lived (sums.py). Gauges mean what the
catalogue says of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from otel_coach.catalogue import CATALOGUE, Kind, Merge
from otel_coach.exposition.snapshot import How, Part, Snapshot, key_of, sample_of
from otel_coach.exposition.sums import ADD_UP, Sums, exact_sum
from otel_coach.exposition.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    Total = Callable[[Iterable[float]], float]

RETIRED: Final = "retired"
"""In the place of a worker: all that are dead and forgotten."""
_ONE_FOR_ALL: Final = frozenset({"info", "stateset"})
_OURS: Final[Mapping[str, Merge]] = {
    metric.prometheus_name: metric.merge for metric in CATALOGUE if metric.kind is Kind.GAUGE
}
_OF_PROCESSES: Final[Mapping[str, Total]] = {
    "process_virtual_memory_bytes": exact_sum,
    "process_resident_memory_bytes": exact_sum,
    "process_open_fds": exact_sum,
    "process_max_fds": max,
    "process_start_time_seconds": min,
    "python_info": max,
}
"""prometheus_client's own collectors: what their gauges mean for several processes."""

_PID: Final = "pid"


class Merged:
    """The figures of several workers, brought up to date by what each of them wrote since."""

    def __init__(self) -> None:
        self._families: dict[str, Sums | _Gauges] = {}

    def begin(self, worker: str) -> None:
        """Forget what `worker` measured: all of it comes anew."""
        for family in self._families.values():
            family.forget(worker)

    def add(self, snapshot: Snapshot, worker: str) -> None:
        """Add what `worker`, whose name begins with its pid, measured, or what changed of it."""
        for part in snapshot.parts:
            family = self._families.get(part.name)
            if family is None:
                family = Sums(part) if part.type in ADD_UP else _Gauges(part)
                self._families[part.name] = family
            if family.about.type == part.type:
                family.add(part, worker)

    def tables(self, living: AbstractSet[str]) -> Iterator[Table]:
        """The merged families, in the order in which they came; some hold for the `living` only."""
        for family in self._families.values():
            table = family.merged() if isinstance(family, Sums) else family.merged(living)
            if table is not None:
                yield table

    def retired(self) -> Snapshot:
        """What stays when the workers are gone, each number in its exact parts."""
        return Snapshot([part for family in self._families.values() for part in family.retired()])


class _Gauges:
    """A family of which the samples do not simply add up, with the numbers of each worker."""

    def __init__(self, part: Part) -> None:
        self.about = part.about
        self._columns: dict[str, dict[str, float]] = {}
        """By worker, then by sample."""
        self._times: dict[str, dict[str, float]] = {}
        """When they were measured, where that matters."""
        self._is_latest = _OURS.get(part.name) is Merge.LATEST
        self._is_one_for_all = part.type in _ONE_FOR_ALL
        self._is_each_workers_own = not (
            self._is_one_for_all or part.name in _OURS or part.name in _OF_PROCESSES
        )
        self._total: Total = max
        if _OURS.get(part.name) is Merge.SUM:
            self._total = exact_sum
        else:
            self._total = _OF_PROCESSES.get(part.name, max)

    def forget(self, worker: str) -> None:
        """What it measured is gone."""
        self._columns.pop(worker, None)
        self._times.pop(worker, None)

    def add(self, part: Part, worker: str) -> None:
        """Add what `worker` measured, or bring it up to date."""
        if part.how == How.WHOLE:
            self.forget(worker)
        keys = part.keys
        if self._is_each_workers_own:
            keys = [_with_pid(key, worker.partition("-")[0]) for key in keys]
        self._columns.setdefault(worker, {}).update(zip(keys, part.values, strict=True))
        if part.times:
            self._times.setdefault(worker, {}).update(zip(keys, part.times, strict=True))

    def merged(self, living: AbstractSet[str]) -> Table | None:
        """One value for each sample; None where no worker has any that counts."""
        if self._is_latest:
            values = {key: value for key, (value, _) in self._latest().items()}
            return Table(self.about, [*values], [*values.values()], {}) if values else None
        columns = [column for worker, column in self._columns.items() if worker in living]
        if self.about.type == "info":
            del columns[1:]  # one service has one target_info
        if not columns:
            return None
        keys = dict.fromkeys(key for column in columns for key in column)
        values = {
            key: self._total([column[key] for column in columns if key in column]) for key in keys
        }
        return Table(self.about, [*values], [*values.values()], {})

    def retired(self) -> Iterator[Part]:
        """What stays of it: that of which the latest counts."""
        if self._is_latest and (latest := self._latest()):
            values, times = zip(*latest.values(), strict=True)
            yield Part(*self.about, [*latest], values, times=times)

    def _latest(self) -> dict[str, tuple[float, float]]:
        """The values measured last, and when."""
        found: dict[str, tuple[float, float]] = {}
        for worker, column in self._columns.items():
            times = self._times.get(worker, {})
            for key, value in column.items():
                at = times.get(key, 0.0)
                if at >= found.get(key, (0.0, -math.inf))[1]:
                    found[key] = value, at
        return found


def _with_pid(key: str, pid: str) -> str:
    name, labels = sample_of(key)
    return key_of(name, {**labels, _PID: pid})
