"""What is counted and priced: kinds of tokens, seconds, searches, and how they contain each other.

A unit has dimensions, such as family=tokens, direction=input, token_type=cache_read. A unit is part
of another if it has all dimensions of that one and more. A count that is not given is 0, unless
counts that are given say that it cannot be known.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from itertools import combinations
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Count = int | float | Decimal
    Counts = Mapping[str, Count]

REQUESTS: Final = "requests"
"""The unit that is never counted: a call is one request."""


class Unit(NamedTuple):
    """One kind of what is counted."""

    usage_key: str
    """Its name among counts."""
    price_key: str
    """Its name among prices."""
    per: Decimal
    """How many of it a price is for."""
    dimensions: frozenset[tuple[str, str]]

    def contains(self, other: Unit) -> bool:
        """Whether `other` is a part of this unit, or the same."""
        return self.dimensions <= other.dimensions

    def overlap(self, other: Unit) -> frozenset[tuple[str, str]] | None:
        """Returns the dimensions of what is counted by both, None if that is nothing."""
        both = self.dimensions | other.dimensions
        return both if len(dict(both)) == len(both) else None


class Units:
    """All units, from the list's table: price key, per, dimensions, by usage key."""

    def __init__(self, table: Mapping[str, tuple[str, int, Mapping[str, str]]]) -> None:
        units = [
            Unit(usage_key, price_key, Decimal(per), frozenset(dimensions.items()))
            for usage_key, (price_key, per, dimensions) in table.items()
        ]
        self.by_usage_key = {unit.usage_key: unit for unit in units}
        self.by_price_key = {unit.price_key: unit for unit in units}
        self._by_dimensions = {unit.dimensions: unit for unit in units}

    def validated(self, counts: Mapping[str, Any]) -> dict[str, Count]:
        """Returns the counts that are given.

        Raises:
            ValueError: one of them is no count, or of a kind that the list does not have.
        """
        found: dict[str, Count] = {}
        for key, value in counts.items():
            if value is None:
                continue
            if key not in self.by_usage_key or key == REQUESTS:
                message = f"the price list does not know what {key} is"
                raise ValueError(message)
            found[key] = value if type(value) is int and value >= 0 else _validated(key, value)
        return found

    def problem(self, priced: Iterable[Unit]) -> str | None:
        """Returns why prices for these units cannot be used together, None if they can.

        Each unit that contains a priced one must have a price, and so must what two of them both
        count.
        """
        units = list(priced)
        keys = {unit.usage_key for unit in units}
        for unit in units:
            for other in self.by_usage_key.values():
                if other.usage_key not in keys and other.contains(unit):
                    return f"{unit.usage_key} has a price, and {other.usage_key} has none"
        for one, other in combinations(units, 2):
            if (both := one.overlap(other)) is None:
                continue
            join = self._by_dimensions.get(both)
            if join is None or join.usage_key not in keys:
                return f"what is both {one.usage_key} and {other.usage_key} has no price"
        return None

    def why_unknown(self, usage_key: str, positive: frozenset[str]) -> str | None:
        """Returns why the count of `usage_key`, which is not given, is unknown; None if it is 0.

        `positive` has the usage keys of all counts that are given and are not 0.
        """
        wanted = self.by_usage_key[usage_key]
        given = [self.by_usage_key[key] for key in sorted(positive)]
        parts = [unit.usage_key for unit in given if wanted.contains(unit)]
        if parts:
            return f"{usage_key} is not given, but its parts {', '.join(parts)} are"
        for one, other in combinations(given, 2):
            if one.contains(other) or other.contains(one):
                continue
            if one.overlap(other) == wanted.dimensions:
                return f"{usage_key} is not given, though {one.usage_key}, {other.usage_key} are"
        return None


def as_decimal(count: Count) -> Decimal:
    """Returns `count` as it is written."""
    if isinstance(count, int):
        return Decimal(count)
    return count if isinstance(count, Decimal) else Decimal(repr(count))


def subtract(whole: Count, parts: Iterable[Count]) -> Count:
    """Returns `whole` without `parts`, exactly; a float if there are floats and no Decimals."""
    parts = tuple(parts)
    if isinstance(whole, int) and all(isinstance(part, int) for part in parts):
        return whole - sum(parts)
    counts = (whole, *parts)
    decimals = [as_decimal(count) for count in counts]
    with localcontext(_exact(decimals)):
        rest = decimals[0] - sum(decimals[1:], start=Decimal(0))
    if any(isinstance(count, Decimal) for count in counts):
        return rest
    as_float = float(rest)
    if not math.isfinite(as_float):
        message = "the counts are too large"
        raise ValueError(message)
    return as_float


def _exact(values: list[Decimal]) -> Context:
    lowest = min(int(value.as_tuple().exponent) for value in values)
    digits = max(value.adjusted() for value in values) - lowest + 1 + len(str(len(values)))
    return Context(prec=max(digits, 1), Emax=MAX_EMAX, Emin=MIN_EMIN)


def _validated(key: str, value: Any) -> Count:
    if type(value) is not bool and isinstance(value, Integral):
        value = int(value)
    is_number = type(value) in {int, float} or isinstance(value, Decimal)
    if not is_number or not math.isfinite(value) or value < 0:
        message = f"{key}={value!r} is no count"
        raise ValueError(message)
    return value
