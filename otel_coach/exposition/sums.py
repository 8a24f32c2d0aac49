"""Families of which the samples add up: counters, histograms, summaries; exact to the last bit.

Their sums are rounded once, from the exact sum (`math.fsum`), so that none falls by a rounding from
one scrape to the next. What is retired is kept as numbers whose exact sum is that of the workers it
came from.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from fractions import Fraction
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from otel_coach.exposition.snapshot import How, KeyedExemplar, Part, in_parts, sample_of
from otel_coach.exposition.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ADD_UP: Final = frozenset({"counter", "histogram", "summary", "gaugehistogram"})
"""Types of families."""
_CREATED: Final = "_created"
_ROUNDING: Final = 1e-12
"""By how much of itself a sum may be too large that was made of increments."""


class Sums:
    """A family, with the numbers of each worker, living or dead."""

    def __init__(self, part: Part) -> None:
        self.about = part.about
        self._places: dict[str, int] = {}
        """Of the samples, by key."""
        self._columns: dict[tuple[str, int], _Column] = {}
        """By worker, and by the place of its numbers among those that add up to one value."""
        self._rises: dict[str, dict[int, list[float]]] = defaultdict(dict)
        """By worker, what its samples were before they rose, and by how much they did."""
        self._exemplars: dict[str, KeyedExemplar] = {}
        self._has_times_of_creation = False

    def forget(self, worker: str) -> None:
        """What it measured is gone."""
        for at in [at for at in self._columns if at[0] == worker]:
            del self._columns[at]
        self._rises.pop(worker, None)

    def add(self, part: Part, worker: str) -> None:
        """Add what `worker` measured, or bring it up to date."""
        if part.how == How.ADD:
            self._raise(part, worker)
            return
        for place, (value, *_) in self._rises.pop(worker, {}).items():
            self._columns[worker, 0].put(place, value)
        if part.how == How.WHOLE and not part.place:
            self.forget(worker)
        column = self._columns.setdefault((worker, part.place), _Column())
        for key, value in zip(part.keys, part.values, strict=True):
            column.put(self._place(key), value)
        for exemplar in part.exemplars:
            key, _, _, at = exemplar
            known = self._exemplars.get(key)
            if known is None or (at or 0) >= (known[3] or 0):
                self._exemplars[key] = exemplar

    def merged(self) -> Table | None:
        """One value for each sample; None where no worker has the family."""
        columns = [*self._columns.values()]
        if not columns:
            return None
        keys, values = [*self._places], self._totals(columns)
        has = _any([column.has for column in columns])
        if 0 in has or len(has) < len(keys):  # samples that nobody has any more
            rows = [row for row, is_there in enumerate(has) if is_there]
            keys, values = [keys[row] for row in rows], [values[row] for row in rows]
        return Table(self.about, keys, values, self._exemplars)

    def retired(self) -> Iterator[Part]:
        """What stays of it. A number that one float cannot hold is spread over several parts."""
        places: list[dict[str, float]] = [{}]
        for key, place in self._places.items():
            if numbers := self._numbers(place):
                exact = [min(numbers)] if _is_time_of_creation(key) else _exact(numbers)
                places += [{} for _ in exact[len(places) :]]
                for column, number in zip(places, exact, strict=False):
                    column[key] = number
        for place, column in enumerate(places):
            whole = Part(*self.about, [*column], [*column.values()], place=place)
            yield from in_parts(whole, {} if place else self._exemplars)

    def _place(self, key: str) -> int:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self._places)
            self._has_times_of_creation |= _is_time_of_creation(key)
        return place

    def _raise(self, part: Part, worker: str) -> None:
        column = self._columns.setdefault((worker, 0), _Column())
        rises = self._rises[worker]
        for key, value in zip(part.keys, part.values, strict=True):
            place = self._place(key)
            numbers = rises.setdefault(place, [column.get(place)])
            numbers.append(float(value))
            column.put(place, _at_most(numbers))

    def _totals(self, columns: list[_Column]) -> list[float]:
        if len(columns) == 1:
            return columns[0].values.tolist()
        rows = zip_longest(*(column.values for column in columns), fillvalue=0.0)
        try:
            values = [*map(math.fsum, rows)]
        except (ValueError, OverflowError):  # infinities, or numbers near to them
            rows = zip_longest(*(column.values for column in columns), fillvalue=0.0)
            values = [*map(exact_sum, rows)]
        if self._has_times_of_creation:
            for key, place in self._places.items():
                if _is_time_of_creation(key) and place < len(values):
                    values[place] = min(self._numbers(place), default=math.nan)
        return values

    def _numbers(self, place: int) -> list[float]:
        return [
            column.values[place]
            for column in self._columns.values()
            if place < len(column.has) and column.has[place]
        ]


class _Column:
    """The numbers of one worker, by the places of the samples."""

    __slots__ = ("has", "values")

    def __init__(self) -> None:
        self.values = array("d")
        self.has = bytearray()

    def put(self, place: int, value: float) -> None:
        missing = place + 1 - len(self.values)
        if missing > 0:
            self.values.frombytes(bytes(8 * missing))
            self.has.extend(bytes(missing))
        self.values[place] = value
        self.has[place] = 1

    def get(self, place: int) -> float:
        return self.values[place] if place < len(self.values) else 0.0


def exact_sum(numbers: Iterable[float]) -> float:
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


def _is_time_of_creation(key: str) -> bool:
    return _CREATED in key and sample_of(key)[0].endswith(_CREATED)


def _any(columns: list[bytearray]) -> bytearray:
    """Where one of `columns` has a number."""
    if len(columns) == 1:
        return columns[0]
    longest = max(map(len, columns))
    bits = 0
    for column in columns:
        bits |= int.from_bytes(column, "little")
    return bytearray(bits.to_bytes(longest, "little"))


def _at_most(numbers: list[float]) -> float:
    """What a sample has become that rose, from the first of `numbers` on, by the others.

    The worker's own sum of the same numbers may be rounded otherwise; it must not be less than
    this one, or a counter would seem to have begun anew.
    """
    total = math.fsum(numbers)
    if all(map(float.is_integer, numbers)):
        return total
    return max(numbers[0], total - abs(total) * _ROUNDING)


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
