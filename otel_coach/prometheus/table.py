"""Families with their samples as columns, and the changes in the families of this process."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_coach.prometheus.snapshot import (
    Effect,
    FamilyMetadata,
    GaugeTimes,
    KeyedExemplar,
    Part,
    Snapshot,
    in_parts,
    key_of,
    keyed,
    label_values,
    metadata_of,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample


_KEPT: Final = frozenset({"process_cpu_seconds"})
"""Kept if missing: prometheus_client omits these if no file descriptor is left to read them."""


@dataclass
class Table:
    """The samples of one family, as the page shows them."""

    metadata: FamilyMetadata
    keys: Sequence[str]
    values: Sequence[float]
    exemplars: Mapping[str, KeyedExemplar]


@dataclass
class _Columns:
    """A family of this process, as last measured."""

    metadata: FamilyMetadata
    rows: dict[str, int] = field(default_factory=dict[str, int])
    """The indices of the samples, by key."""
    values: array[float] = field(default_factory=lambda: array("d"))
    exemplars: dict[str, KeyedExemplar] = field(default_factory=dict[str, KeyedExemplar])
    times: dict[str, float] = field(default_factory=dict[str, float])


class LocalTables:
    """The families of this process as last measured; finds what a new measurement has changed."""

    def __init__(self) -> None:
        self._families: dict[str, _Columns] = {}

    def bring_up_to_date(
        self, families: Iterable[Metric], partial: Container[str], gauge_times: GaugeTimes
    ) -> Snapshot:
        """Stores the values of `families`; returns what changed.

        Families whose name is in `partial` contain only the samples that may have changed.
        """
        changed: list[Part] = []
        known = dict.fromkeys(self._families)
        for family in families:
            known.pop(family.name, None)
            times = gauge_times.get(family.name, {})
            changed.extend(self._changes(family, times, is_partial=family.name in partial))
        for gone in known:
            if gone in _KEPT:
                continue
            changed.append(Part(*self._families.pop(gone).metadata, [], []))
        return Snapshot(changed)

    def all(self) -> Snapshot:
        """Returns everything, as last measured."""
        return Snapshot(
            [
                part
                for columns in self._families.values()
                for part in _parts(columns, [*columns.rows], Effect.WHOLE)
            ]
        )

    def __iter__(self) -> Iterator[Table]:
        for columns in self._families.values():
            yield Table(columns.metadata, [*columns.rows], columns.values, columns.exemplars)

    def _changes(
        self, family: Metric, times: Mapping[tuple[str, ...], float], *, is_partial: bool
    ) -> Iterator[Part]:
        samples = {key_of(sample.name, sample.labels): sample for sample in family.samples}
        columns = self._families.get(family.name)
        begins_anew = (
            columns is None
            or columns.metadata.type != family.type
            or not (is_partial or columns.rows.keys() <= samples.keys())
        )
        if columns is None or begins_anew:
            columns = self._families[family.name] = _Columns(metadata_of(family))
        changed = _take(columns, samples, times)
        if begins_anew or changed:
            effect = Effect.WHOLE if begins_anew else Effect.UPDATE
            yield from _parts(columns, changed, effect)


def _take(
    columns: _Columns, samples: Mapping[str, Sample], times: Mapping[tuple[str, ...], float]
) -> list[str]:
    """Stores `samples` in `columns`; returns the keys of those that changed."""
    changed: list[str] = []
    rows, values, exemplars = columns.rows, columns.values, columns.exemplars
    for key, sample in samples.items():
        row = rows.setdefault(key, len(values))
        if row == len(values):
            values.append(math.nan)  # unequal to every value, so that the sample counts as changed
        has_changed = values[row] != sample.value
        values[row] = sample.value
        if sample.exemplar is not None:
            exemplar = keyed(key, sample.exemplar)
            has_changed = has_changed or exemplars.get(key) != exemplar
            exemplars[key] = exemplar
        if times:
            at = times.get(label_values(key), 0.0)
            has_changed = has_changed or columns.times.get(key) != at
            columns.times[key] = at
        if has_changed:
            changed.append(key)
    return changed


def _parts(columns: _Columns, keys: Sequence[str], effect: Effect) -> Iterator[Part]:
    rows, values, times = columns.rows, columns.values, columns.times
    whole = Part(
        *columns.metadata,
        keys,
        [values[rows[key]] for key in keys],
        times=[times.get(key, 0.0) for key in keys] if times else [],
        effect=effect,
    )
    return in_parts(whole, columns.exemplars)
