"""The samples of one family as columns, and those of this process with what changed in them."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_coach.exposition.snapshot import (
    About,
    GaugeTimes,
    How,
    KeyedExemplar,
    Part,
    Snapshot,
    about,
    in_parts,
    key_of,
    keyed,
    label_values,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample


_KEPT: Final = frozenset({"process_cpu_seconds"})
"""Counters that prometheus_client leaves out where it has no descriptor to read them."""


@dataclass
class Table:
    """The samples of one family, as they are to be shown."""

    about: About
    keys: Sequence[str]
    values: Sequence[float]
    exemplars: Mapping[str, KeyedExemplar]


@dataclass
class _Columns:
    """A family of this process, as it was measured last."""

    about: About
    places: dict[str, int] = field(default_factory=dict[str, int])
    """Of the samples, by key."""
    values: array[float] = field(default_factory=lambda: array("d"))
    exemplars: dict[str, KeyedExemplar] = field(default_factory=dict[str, KeyedExemplar])
    times: dict[str, float] = field(default_factory=dict[str, float])


class LocalTables:
    """What this process measured last, and the way from there to what it measures now."""

    def __init__(self) -> None:
        self._families: dict[str, _Columns] = {}

    def bring_up_to_date(
        self, families: Iterable[Metric], partial: Container[str], gauge_times: GaugeTimes
    ) -> Snapshot:
        """Take `families` in; what changed by it.

        Of those whose name is among `partial` there are the samples only that may have changed.
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
            changed.append(Part(*self._families.pop(gone).about, [], []))
        return Snapshot(changed)

    def all(self) -> Snapshot:
        """Everything, as it was measured last."""
        return Snapshot(
            [
                part
                for columns in self._families.values()
                for part in _parts(columns, [*columns.places], How.WHOLE)
            ]
        )

    def __iter__(self) -> Iterator[Table]:
        for columns in self._families.values():
            yield Table(columns.about, [*columns.places], columns.values, columns.exemplars)

    def _changes(
        self, family: Metric, times: Mapping[tuple[str, ...], float], *, is_partial: bool
    ) -> Iterator[Part]:
        samples = {key_of(sample.name, sample.labels): sample for sample in family.samples}
        columns = self._families.get(family.name)
        begins_anew = (
            columns is None
            or columns.about.type != family.type
            or not (is_partial or columns.places.keys() <= samples.keys())
        )
        if columns is None or begins_anew:
            columns = self._families[family.name] = _Columns(about(family))
        changed = _take(columns, samples, times)
        if begins_anew or changed:
            how = How.WHOLE if begins_anew else How.UPDATE
            yield from _parts(columns, changed, how)


def _take(
    columns: _Columns, samples: Mapping[str, Sample], times: Mapping[tuple[str, ...], float]
) -> list[str]:
    """Take `samples` in; the keys of those that changed."""
    changed: list[str] = []
    places, values, exemplars = columns.places, columns.values, columns.exemplars
    for key, sample in samples.items():
        place = places.setdefault(key, len(values))
        if place == len(values):
            values.append(math.nan)  # which nothing is equal to
        has_changed = values[place] != sample.value
        values[place] = sample.value
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


def _parts(columns: _Columns, keys: Sequence[str], how: How) -> Iterator[Part]:
    places, values, times = columns.places, columns.values, columns.times
    whole = Part(
        *columns.about,
        keys,
        [values[places[key]] for key in keys],
        times=[times.get(key, 0.0) for key in keys] if times else [],
        how=how,
    )
    return in_parts(whole, columns.exemplars)
