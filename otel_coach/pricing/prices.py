"""What a call costs by the entry of its model, in Decimal.

The arithmetic is that of genai-prices, whose results these are, to the last digit.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from otel_coach.pricing.units import REQUESTS, as_decimal, subtract

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_coach.pricing.units import Count, Counts, Units

    Constraint = date | tuple[time, time] | None

_INPUT: Final = "input_tokens"
"""The count that decides which tier of a price is paid."""
_SECONDS: Final = ("audio_seconds", "input_audio_seconds")
"""The counts that have a minimum where a model's entry states one."""
_MAX_PLANS: Final = 8
_CONTEXT: Final = Context(
    prec=28,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)
"""Python's default. The context of the thread is the application's, and may be another one."""


class Tiers(NamedTuple):
    """A price that depends on how many input tokens the whole call has."""

    base: Decimal
    tiers: Sequence[tuple[int, Decimal]]
    """For each tier, ascending: the number of input tokens above which it applies, and the price of
    all tokens of such a call."""

    def at(self, input_tokens: Count) -> Decimal:
        """Returns the price of a call with so many input tokens."""
        for start, price in reversed(self.tiers):
            if input_tokens > start:
                return price
        return self.base


class _Plan(NamedTuple):
    """How to price calls in which the same units were counted."""

    wholes: Sequence[tuple[str, Sequence[str]]]
    """Each usage key, and the usage keys of its parts. Parts come before their wholes."""
    priced: Sequence[tuple[str, Decimal | Tiers, Decimal]]
    """Usage keys with their prices, and for how many units each price is."""


class Prices:
    """The prices that a model has at one time, in one context.

    Args:
        table: the prices by price key, as in the list: a number, or a list of the base price and of
            [start, price] for each tier.
        units: the units that the keys stand for.
    """

    def __init__(self, table: Mapping[str, Any], units: Units) -> None:
        self._units = units
        self.by_unit = [(units.by_price_key[key], _price(value)) for key, value in table.items()]
        """In the order in which they are added up."""
        self._problem = units.problem(unit for unit, _ in self.by_unit)
        self._plans: dict[tuple[frozenset[str], frozenset[str]], _Plan] = {}
        """By what was counted, and by what of it is not 0."""

    def cost(self, counts: Counts) -> Decimal:
        """Returns the US dollars for what was counted.

        Raises:
            ValueError: a count is missing, is less than its parts, or could have several prices.
        """
        plan = self._plan(counts)
        alone: dict[str, Count] = {REQUESTS: 1}
        for key, parts in plan.wholes:
            whole = counts[key]
            rest = subtract(whole, [alone[part] for part in parts]) if parts else whole
            if rest < 0:
                message = f"{key} ({whole}) is less than its parts {', '.join(parts)}"
                raise ValueError(message)
            alone[key] = rest
        total = Decimal(0)
        for key, price, per in plan.priced:
            rate = price if isinstance(price, Decimal) else price.at(counts.get(_INPUT, 0))
            total = _CONTEXT.add(
                total, _CONTEXT.divide(_CONTEXT.multiply(rate, as_decimal(alone[key])), per)
            )
        return total

    def _plan(self, counts: Counts) -> _Plan:
        given = frozenset(counts)
        positive = frozenset([key for key, value in counts.items() if value > 0])
        plan = self._plans.get((given, positive))
        if plan is None:
            plan = self._made_plan(given, positive)
            if len(self._plans) < _MAX_PLANS:
                self._plans[given, positive] = plan
        return plan

    def _made_plan(self, given: frozenset[str], positive: frozenset[str]) -> _Plan:
        """Returns a plan that leaves out the units that were not counted: their count is 0.

        Raises:
            ValueError: a missing count cannot be 0, or the prices cannot be used together.
        """
        if self._problem is not None:
            raise ValueError(self._problem)
        counted = [unit for unit, _ in self.by_unit if unit.usage_key != REQUESTS]
        needed = [unit.usage_key for unit in counted]
        if any(isinstance(price, Tiers) for _, price in self.by_unit):
            needed.append(_INPUT)
        for key in needed:
            if key not in given and (why := self._units.why_unknown(key, positive)) is not None:
                raise ValueError(why)
        # A whole comes after its parts, which have more dimensions.
        wholes = [unit for unit in counted if unit.usage_key in given]
        wholes.sort(key=lambda unit: (-len(unit.dimensions), unit.usage_key))
        return _Plan(
            [
                (
                    unit.usage_key,
                    [part.usage_key for part in wholes if part is not unit and unit.contains(part)],
                )
                for unit in wholes
            ],
            [
                (unit.usage_key, price, unit.per)
                for unit, price in self.by_unit
                if unit.usage_key in {REQUESTS, *given}
            ],
        )


class Model:
    """A model's entry: its prices by time and context.

    Args:
        model_id: the model's id.
        prices: its table of prices, or a list of [constraint or None, table]: of these, the last
            one whose constraint is met applies, or else the first one.
        variants: a list of [context, constraint or None, table]: prices that override those
            above where the call's context includes this one and the constraint holds; if several
            do, the earlier ones win.
        least_seconds: how many seconds of audio are paid at least, if any are.
        units: the units that the prices are for.

    A constraint is the day (UTC) on which a price begins, or the times (UTC) between which it holds
    each day.
    """

    def __init__(
        self, model_id: str, prices: Any, variants: Any, least_seconds: int, units: Units
    ) -> None:
        self.id = model_id
        rows: Any = [(None, prices)] if isinstance(prices, dict) else prices
        self._standard: list[tuple[Constraint, Mapping[str, Any]]] = [
            (_constraint(constraint), table) for constraint, table in rows
        ]
        self._variants: list[tuple[Mapping[str, str], Constraint, Mapping[str, Any]]] = [
            (context, _constraint(constraint), table) for context, constraint, table in variants
        ]
        self._least_seconds = least_seconds
        self._units = units
        self._made: dict[tuple[int, ...], Prices] = {}
        """By the index in `_standard` of what applies, then the indexes in `_variants`."""

    def prices(self, when: datetime, context: Mapping[str, str] | None) -> Prices:
        """Returns the prices at the time `when`; a time without a zone is UTC."""
        if when.tzinfo is not UTC:
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        standard = 0
        for number in range(len(self._standard) - 1, -1, -1):
            if _holds(self._standard[number][0], when):
                standard = number
                break
        numbers = [*self._variants_of(context, when)] if context else []
        key = (standard, *numbers)
        if (made := self._made.get(key)) is None:
            overrides: dict[str, Any] = {}
            for number in numbers:
                for price_key, price in self._variants[number][2].items():
                    overrides.setdefault(price_key, price)
            table = {**self._standard[standard][1], **overrides}
            made = self._made[key] = Prices(table, self._units)
        return made

    def has_variant(self, context: Mapping[str, str]) -> bool:
        """Whether some prices are for a context that is part of this one."""
        return any(wanted.items() <= context.items() for wanted, _, _ in self._variants)

    def _variants_of(self, context: Mapping[str, str], when: datetime) -> Iterator[int]:
        for number, (wanted, constraint, _) in enumerate(self._variants):
            if _holds(constraint, when) and wanted.items() <= context.items():
                yield number

    def validated(self, counts: Mapping[str, Any]) -> Counts:
        """Returns the counts that are given; raises as `Units.validated` does."""
        return self._units.validated(counts)

    def billed(self, counts: Counts) -> Counts:
        """Returns `counts`, raised to the minimum that the provider charges for."""
        if not self._least_seconds:
            return counts
        seconds = counts.get(_SECONDS[0]) or counts.get(_SECONDS[1])
        if seconds is None:
            return counts
        paid = max(seconds, self._least_seconds) if seconds > 0 else 0
        return {**counts, **dict.fromkeys(_SECONDS, paid)}


def _price(value: Any) -> Decimal | Tiers:
    if isinstance(value, list):
        base, *tiers = cast("list[Any]", value)
        return Tiers(Decimal(base), [(start, Decimal(price)) for start, price in tiers])
    return Decimal(value)


def _constraint(value: Any) -> Constraint:
    if value is None:
        return None
    if isinstance(value, str):
        return date.fromisoformat(value)
    start, end = cast("list[str]", value)
    return time.fromisoformat(start), time.fromisoformat(end)


def _holds(constraint: Constraint, when: datetime) -> bool:
    if constraint is None:
        return True
    if isinstance(constraint, date):
        return when.date() >= constraint
    start, end = constraint
    now = when.time()
    return start <= now < end if start <= end else now >= start or now < end
