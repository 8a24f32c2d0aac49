"""Merges the snapshots of several workers, and the changes in them that follow.

Counters, histograms and summaries are added up over all workers, ended ones included (sums.py).
otel-coach's gauges are merged as the catalogue says, prometheus_client's gauges of the process as
`_PROCESS_GAUGES` says. Infos and state sets are shown once for all workers. Any other family gets
the label `pid`, so that it has separate samples for each worker.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from otel_coach.metrics.catalogue import CATALOGUE, InstrumentKind, Merge
from otel_coach.prometheus.snapshot import (
    Effect,
    Part,
    Snapshot,
    from_bytes,
    key_of,
    sample_of,
    to_bytes,
)
from otel_coach.prometheus.sums import ADD_UP, Sums, exact_sum
from otel_coach.prometheus.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    Total = Callable[[Iterable[float]], float]

_ENDED: Final = "dead"
"""Prefix of the names that `fold` gives to ended workers."""
_ONE_FOR_ALL: Final = frozenset({"info", "stateset"})
_OWN_GAUGES: Final[Mapping[str, Merge]] = {
    metric.prometheus_name: metric.merge
    for metric in CATALOGUE
    if metric.kind is InstrumentKind.GAUGE
}
_PROCESS_GAUGES: Final[Mapping[str, Total]] = {
    "process_virtual_memory_bytes": exact_sum,
    "process_resident_memory_bytes": exact_sum,
    "process_open_fds": exact_sum,
    "process_max_fds": max,
    "process_start_time_seconds": min,
    "python_info": max,
}
"""How to merge the gauges of prometheus_client's own collectors over several processes."""

_PID: Final = "pid"


class Merged:
    """The metrics of several workers, updated by what each of them has written since."""

    def __init__(self) -> None:
        self._families: dict[str, Sums | _Gauges] = {}

    def forget(self, worker: str) -> None:
        """Forgets the metrics of `worker`: it is gone, or they are about to be added again."""
        for family in self._families.values():
            family.forget(worker)

    def add(self, snapshot: Snapshot, worker: str) -> None:
        """Adds the metrics of `worker` (its name begins with its pid), or the changes in them."""
        for part in snapshot.parts:
            family = self._families.get(part.name)
            if family is None:
                family = Sums(part) if part.type in ADD_UP else _Gauges(part)
                self._families[part.name] = family
            if family.metadata.type == part.type:
                family.add(part, worker)

    def tables(self, living: AbstractSet[str]) -> Iterator[Table]:
        """Yields the merged families in the order in which they were first added.

        Gauges are those of the `living` workers, except those of which the latest value counts.
        """
        for family in self._families.values():
            table = family.merged() if isinstance(family, Sums) else family.merged(living)
            if table is not None:
                yield table

    def folded(self) -> Snapshot:
        """Returns what is kept of ended workers; sums are kept exactly, in several floats."""
        return Snapshot([part for family in self._families.values() for part in family.folded()])


def fold(contents: Sequence[bytes]) -> bytes:
    """Merges the snapshots of several ended workers; the first may be an earlier result.

    Raises:
        OSError: one of the snapshots cannot be read; without it, counters would drop.
    """
    merged = Merged()
    for number, content in enumerate(contents):
        try:
            snapshots, _ = from_bytes(content)
        except ValueError as error:
            message = f"the figures of a worker that has ended cannot be read: {error}"
            raise OSError(message) from error
        for snapshot in snapshots:
            merged.add(snapshot, f"{_ENDED} {number}")
    return to_bytes(merged.folded())


class _Gauges:
    """A family of a type that is not in `ADD_UP`, with the values of each worker."""

    def __init__(self, part: Part) -> None:
        self.metadata = part.metadata
        self._columns: dict[str, dict[str, float]] = {}
        """The values by worker, then by sample."""
        self._times: dict[str, dict[str, float]] = {}
        """When the values were measured, for gauges of which the latest value counts."""
        self._is_latest = _OWN_GAUGES.get(part.name) is Merge.LATEST
        self._is_one_for_all = part.type in _ONE_FOR_ALL
        self._is_per_worker = not (
            self._is_one_for_all or part.name in _OWN_GAUGES or part.name in _PROCESS_GAUGES
        )
        self._total: Total = _PROCESS_GAUGES.get(part.name, max)
        if _OWN_GAUGES.get(part.name) is Merge.SUM:
            self._total = exact_sum

    def forget(self, worker: str) -> None:
        """Forgets the values of `worker`."""
        self._columns.pop(worker, None)
        self._times.pop(worker, None)

    def add(self, part: Part, worker: str) -> None:
        """Adds or updates the values of `worker`."""
        if part.effect == Effect.WHOLE:
            self.forget(worker)
        keys = part.keys
        if self._is_per_worker:
            keys = [_with_pid(key, worker.partition("-")[0]) for key in keys]
        self._columns.setdefault(worker, {}).update(zip(keys, part.values, strict=True))
        if part.times:
            self._times.setdefault(worker, {}).update(zip(keys, part.times, strict=True))

    def merged(self, living: AbstractSet[str]) -> Table | None:
        """Returns one value per sample, from all workers if the latest counts, else from `living`.

        Returns None if none of these workers has the family.
        """
        if self._is_latest:
            values = {key: value for key, (value, _) in self._latest().items()}
            return Table(self.metadata, [*values], [*values.values()], {}) if values else None
        columns = [column for worker, column in self._columns.items() if worker in living]
        if self.metadata.type == "info":
            del columns[1:]  # one service has one target_info
        if not columns:
            return None
        keys = dict.fromkeys(key for column in columns for key in column)
        values = {
            key: self._total([column[key] for column in columns if key in column]) for key in keys
        }
        return Table(self.metadata, [*values], [*values.values()], {})

    def folded(self) -> Iterator[Part]:
        """Yields what is kept of ended workers: gauges of which the latest value counts."""
        if self._is_latest and (latest := self._latest()):
            values, times = zip(*latest.values(), strict=True)
            yield Part(*self.metadata, [*latest], values, times=times)

    def _latest(self) -> dict[str, tuple[float, float]]:
        """Returns the values measured last, with the times of their measurement."""
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
    if _PID in labels:  # the application's own is renamed, as Prometheus does
        labels = {**labels, f"exported_{_PID}": labels[_PID]}
    return key_of(name, {**labels, _PID: pid})
