"""Families whose samples are added up over the workers: counters, histograms, summaries.

Each sum is computed exactly and rounded once (`math.fsum`), so that no sum drops from one scrape to
the next because of rounding. The values of ended workers are replaced by fewer numbers that have
exactly the same sum. Increments are added as a lower bound, until the worker writes its own sum.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from fractions import Fraction
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from otel_coach.prometheus.snapshot import Effect, KeyedExemplar, Part, in_parts, sample_of
from otel_coach.prometheus.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ADD_UP: Final = frozenset({"counter", "histogram", "summary", "gaugehistogram"})
"""The types of these families."""
_CREATED: Final = "_created"
_ROUNDING: Final = 1e-12
"""The relative error that rounding may add to a sum of increments."""


class Sums:
    """A family, with the values of each worker, living or ended."""

    def __init__(self, part: Part) -> None:
        self.metadata = part.metadata
        self._rows: dict[str, int] = {}
        """The rows of the samples in all columns, by key."""
        self._columns: dict[tuple[str, int], _Column] = {}
        """The values, by worker and `Part.summand`."""
        self._rises: dict[str, dict[int, list[float]]] = defaultdict(dict)
        """By worker and row: the value before any increment, followed by the increments."""
        self._exemplars: dict[str, KeyedExemplar] = {}
        self._has_times_of_creation = False

    def forget(self, worker: str) -> None:
        """Forgets the values of `worker`."""
        for key in [key for key in self._columns if key[0] == worker]:
            del self._columns[key]
        self._rises.pop(worker, None)

    def add(self, part: Part, worker: str) -> None:
        """Adds or updates the values of `worker`."""
        if part.effect == Effect.ADD:
            self._add_rises(part, worker)
            return
        for row, (value, *_) in self._rises.pop(worker, {}).items():
            self._columns[worker, 0].put(row, value)
        if part.effect == Effect.WHOLE and not part.summand:
            self.forget(worker)
        column = self._columns.setdefault((worker, part.summand), _Column())
        for key, value in zip(part.keys, part.values, strict=True):
            column.put(self._row(key), value)
        for exemplar in part.exemplars:
            key, _, _, at = exemplar
            known = self._exemplars.get(key)
            if known is None or (at or 0) >= (known[3] or 0):
                self._exemplars[key] = exemplar

    def merged(self) -> Table | None:
        """Returns one value for each sample; None if no worker has the family."""
        columns = [*self._columns.values()]
        if not columns:
            return None
        keys, values = [*self._rows], self._totals(columns)
        has = _any([column.has for column in columns])
        if 0 in has or len(has) < len(keys):  # samples that no worker has any more
            rows = [row for row, is_there in enumerate(has) if is_there]
            keys, values = [keys[row] for row in rows], [values[row] for row in rows]
        return Table(self.metadata, keys, values, self._exemplars)

    def folded(self) -> Iterator[Part]:
        """Yields what remains when the workers have ended.

        A value that one float cannot represent is spread over several parts.
        """
        columns: list[dict[str, float]] = [{}]
        for key, row in self._rows.items():
            if numbers := self._numbers(row):
                exact = [min(numbers)] if _is_time_of_creation(key) else _exact(numbers)
                columns += [{} for _ in exact[len(columns) :]]
                for column, number in zip(columns, exact, strict=False):
                    column[key] = number
        for summand, column in enumerate(columns):
            whole = Part(*self.metadata, [*column], [*column.values()], summand=summand)
            yield from in_parts(whole, {} if summand else self._exemplars)

    def _row(self, key: str) -> int:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            self._has_times_of_creation |= _is_time_of_creation(key)
        return row

    def _add_rises(self, part: Part, worker: str) -> None:
        column = self._columns.setdefault((worker, 0), _Column())
        rises = self._rises[worker]
        for key, value in zip(part.keys, part.values, strict=True):
            row = self._row(key)
            numbers = rises.setdefault(row, [column.get(row)])
            numbers.append(float(value))
            column.put(row, _lower_bound(numbers))

    def _totals(self, columns: list[_Column]) -> list[float]:
        if len(columns) == 1:
            return columns[0].values.tolist()
        rows = zip_longest(*(column.values for column in columns), fillvalue=0.0)
        try:
            values = [*map(math.fsum, rows)]
        except (ValueError, OverflowError):  # infinities, or values near the largest float
            rows = zip_longest(*(column.values for column in columns), fillvalue=0.0)
            values = [*map(exact_sum, rows)]
        if self._has_times_of_creation:
            for key, row in self._rows.items():
                if _is_time_of_creation(key) and row < len(values):
                    values[row] = min(self._numbers(row), default=math.nan)
        return values

    def _numbers(self, row: int) -> list[float]:
        return [
            column.values[row]
            for column in self._columns.values()
            if row < len(column.has) and column.has[row]
        ]


class _Column:
    """The values of one worker, by row."""

    __slots__ = ("has", "values")

    def __init__(self) -> None:
        self.values = array("d")
        self.has = bytearray()

    def put(self, row: int, value: float) -> None:
        missing = row + 1 - len(self.values)
        if missing > 0:
            self.values.frombytes(bytes(8 * missing))
            self.has.extend(bytes(missing))
        self.values[row] = value
        self.has[row] = 1

    def get(self, row: int) -> float:
        return self.values[row] if row < len(self.values) else 0.0


def exact_sum(numbers: Iterable[float]) -> float:
    """Returns the exact sum, rounded once; infinite if it exceeds the largest float."""
    parts = [*numbers]
    try:
        return math.fsum(parts)
    except ValueError:  # infinities of both signs
        return math.nan
    except OverflowError:
        if not all(map(math.isfinite, parts)):
            return sum(parts)
        exact = sum(map(Fraction, parts))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _is_time_of_creation(key: str) -> bool:
    return _CREATED in key and sample_of(key)[0].endswith(_CREATED)


def _any(columns: list[bytearray]) -> bytearray:
    """Returns, for each row, whether any of `columns` has a value."""
    if len(columns) == 1:
        return columns[0]
    longest = max(map(len, columns))
    bits = 0
    for column in columns:
        bits |= int.from_bytes(column, "little")
    return bytearray(bits.to_bytes(longest, "little"))


def _lower_bound(numbers: list[float]) -> float:
    """Returns a lower bound of the sum of `numbers`: a sample's value, then its increments.

    The worker later writes its own sum of the same numbers, perhaps rounded differently. If that
    were less than the value on the page, the counter would seem to have been reset.
    """
    total = exact_sum(numbers)
    if all(map(float.is_integer, numbers)):
        return total
    return max(numbers[0], total - abs(total) * _ROUNDING)


def _exact(parts: list[float]) -> list[float]:
    """Returns a few floats whose exact sum is that of `parts` (Shewchuk's expansion)."""
    if not all(map(math.isfinite, parts)):
        return [sum(parts)]
    if math.isinf(sum(map(abs, parts))):
        return parts  # intermediate sums could overflow
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
