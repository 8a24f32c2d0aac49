"""Compares the prices of a list with those that the installed genai-prices itself calculates.

Calls are made up: each model in every way in which it can be named, with random counts, contexts
and times. The result must be the same Decimal, or an error of the same kind.
"""

from __future__ import annotations

import re
import warnings
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_coach.pricing.convert import installed_list
from otel_coach.pricing.listed import ListedPrices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

_DAYS: Final = datetime(2023, 1, 1, tzinfo=UTC), datetime(2027, 12, 31, tzinfo=UTC)
_ODD_COUNTS: Final = (-1, True, float("nan"), "7", Decimal("-0.5"), Decimal("Infinity"))
_ERRORS: Final = (LookupError, ValueError)


class DifferentPricesError(Exception):
    """A list gives other prices than genai-prices."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__(f"{len(differences)} prices differ, the first: {differences[0]}")


class RandomCall(NamedTuple):
    """A made-up call."""

    model: str
    provider: str | None
    api_url: str | None
    counts: dict[str, Any]
    when: datetime
    context: dict[str, str] | None


class RandomCalls:
    """Makes up calls of all models that the installed genai-prices knows.

    Args:
        seed: the same one makes the same calls.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 # nosec B311 - made-up calls
        self._providers: list[Any] = import_module("genai_prices.data").providers
        units: Mapping[str, Any] = import_module("genai_prices.data_units").unit_data
        self._usage_keys = [key for key in units if key != "requests"]
        self._usage_key_of = {unit["price_key"]: key for key, unit in units.items()}

    def all(self, share: float = 1.0) -> Iterator[RandomCall]:
        """Yields a call for every way of naming every model, by every way of naming its provider.

        And one for every model asked of a provider that may not have it. With a smaller `share`,
        this is a sample of them.
        """
        for provider in self._providers:
            for model in provider.models:
                for name in sorted(self._names(model)):
                    for named, url, asked in self._ways(provider, name):
                        if self._chance(share):
                            yield self._call(model, asked, named, url)
                if self._chance(share):
                    stranger = self._random.choice(self._providers)
                    yield self._call(model, model.id, stranger.id, None)

    def one_for_each_model(self) -> Iterator[RandomCall]:
        """Yields a call for every model, by its id and its provider's."""
        for provider in self._providers:
            for model in provider.models:
                yield self._call(model, model.id, provider.id, None)

    def _call(self, model: Any, name: str, provider: str | None, url: str | None) -> RandomCall:
        counts, when, context = self._counts(model), self._time(model), self._context(model)
        return RandomCall(name, provider, url, counts, when, context)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _names(self, model: Any) -> set[str]:
        names = {model.id, model.id.upper(), f"{model.id}-20260131", f"{model.id}-20260231:free"}
        names.update(self._literals(model.match))
        return names

    def _literals(self, clause: Any) -> Iterator[str]:
        """Yields names that may fit the clause."""
        parts = getattr(clause, "or_", None) or getattr(clause, "and_", None)
        if parts is not None:
            for part in parts:
                yield from self._literals(part)
            return
        (text,) = vars(clause).values()
        match type(clause).__name__:
            case "ClauseStartsWith":
                yield f"{text}-20251211"
            case "ClauseEndsWith":
                yield f"some-{text}"
            case "ClauseContains":
                yield f"some/{text}:free"
            case "ClauseRegex":
                yield self._example(text)
            case _:
                yield text

    @staticmethod
    def _example(pattern: str) -> str:
        """Returns a text that may fit a simple regular expression."""
        digits = re.sub(r"\\d\{(\d+)\}", lambda found: "20260131"[: int(found.group(1))], pattern)
        one_of = re.sub(r"\(\?[:!]([^|)]*)[^)]*\)\??|\[([^]])[^]]*\]\+?", r"\1\2", digits)
        return re.sub(r"[\\^$?()*]", "", one_of.replace(r"\d", "7").replace(r"\[", "["))

    def _ways(self, provider: Any, name: str) -> Iterator[tuple[str | None, str | None, str]]:
        """Yields the provider's name, its address and the model's name."""
        url = self._example(provider.api_pattern.replace("(?:/|$)", "/").replace("(/|$)", "/"))
        yield provider.id, None, name
        yield None, None, name
        yield None, f"{url}/v1", name
        yield self._random.choice(("litellm", "LiteLLM")), None, f"{provider.id}/{name}"
        others = [*self._literals(provider.provider_match)] if provider.provider_match else []
        others += [f" {provider.id.upper()} ", "nobody", "litellm", provider.name]
        yield self._random.choice(others), self._random.choice((None, url)), name

    def _counts(self, model: Any) -> dict[str, Any]:
        rng = self._random
        priced = {self._usage_key_of[key] for prices in _prices_of(model) for key in vars(prices)}
        keys = sorted(priced & {*self._usage_keys})
        found: dict[str, Any] = {}
        for key in keys:
            if self._chance(0.7):
                found[key] = self._count(key)
        if self._chance(0.3):
            found[rng.choice(self._usage_keys)] = self._count(rng.choice(self._usage_keys))
        if self._chance(0.7):  # then wholes are most often larger than their parts
            for key in ("input_tokens", "output_tokens"):
                if key in found and not isinstance(found[key], str):
                    found[key] = rng.randrange(10**6)
        if self._chance(0.01):
            found[rng.choice(self._usage_keys)] = rng.choice(_ODD_COUNTS)
        return found

    def _count(self, key: str) -> Any:
        rng = self._random
        if self._chance(0.15):
            return 0
        if "seconds" in key or self._chance(0.05):
            seconds = round(rng.expovariate(1 / 30), rng.randrange(6))
            return rng.choice((seconds, Decimal(repr(seconds)), int(seconds)))
        return rng.randrange(rng.choice((50, 10**4, 10**6)))

    def _time(self, model: Any) -> datetime:
        rng = self._random
        first, last = _DAYS
        when = first + rng.random() * (last - first)
        constraints = [row.constraint for row in _rows_of(model) if row.constraint is not None]
        if constraints and self._chance(0.5):
            when = self._edge(rng.choice(constraints), when)
        zone = timezone(timedelta(minutes=rng.randrange(-14 * 60, 14 * 60)))
        return rng.choice((when, when.replace(tzinfo=None), when.astimezone(zone)))

    def _edge(self, constraint: Any, when: datetime) -> datetime:
        """Returns a time at which the constraint begins or ends to hold, or just before."""
        if (start := getattr(constraint, "start_date", None)) is not None:
            when = datetime(start.year, start.month, start.day, tzinfo=UTC)
        else:
            moment = self._random.choice((constraint.start_time, constraint.end_time))
            when = datetime.combine(when, moment).astimezone(UTC)
        return when - timedelta(microseconds=self._random.randrange(2))

    def _context(self, model: Any) -> dict[str, str] | None:
        rng = self._random
        choices: list[dict[str, str] | None] = [None, {}, {"service_tier": "flex"}]
        choices += [{"service_tier": "unheard-of", "processing": "batch"}]
        for variant in model.price_variants or ():
            choices += [{**variant.when}, {**variant.when, "processing": "batch"}]
        return rng.choice(choices)


def difference(listed: ListedPrices, call: RandomCall) -> str | None:
    """Returns how the results for `call` differ, None if they do not."""
    expected, found = genai_prices_cost(call), listed_cost(listed, call)
    if expected == found:
        return None
    return f"{call}: genai-prices says {expected!r}, otel-coach {found!r}"


def write_proven_list(path: Path, day: date | None = None) -> int:
    """Writes the list of the installed genai-prices to `path`, if it gives the same prices.

    Returns how many prices were compared, each that of a call.

    Args:
        path: the file to write; it is replaced at once, when all of it is there.
        day: the day of the prices, as in `installed_list`.

    Raises:
        DifferentPricesError: it does not give the same prices; nothing is written.
        UnknownMeaningError: genai-prices has something whose meaning is not known.
        OSError: the file cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(installed_list(day))
        listed = ListedPrices(new)
        calls = [*RandomCalls(seed=1).one_for_each_model()]
        if differences := [found for call in calls if (found := difference(listed, call))]:
            raise DifferentPricesError(differences)
        count = sum(isinstance(listed_cost(listed, call), Decimal) for call in calls)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return count


def genai_prices_cost(call: RandomCall) -> Decimal | str:
    """Returns what genai-prices says that a call costs, or the name of its error's class."""
    genai_prices: Any = import_module("genai_prices")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = genai_prices.calc_price(
                genai_prices.Usage(**call.counts),
                call.model,
                provider_id=call.provider,
                provider_api_url=call.api_url,
                genai_request_timestamp=call.when,
                price_context=call.context,
            )
    except _ERRORS as error:
        return type(error).__name__
    return found.total_price


def listed_cost(listed: ListedPrices, call: RandomCall) -> Decimal | str:
    """Returns what the call costs by `listed`, or the name of the error's class."""
    try:
        listed.units.validated(call.counts)  # which genai-prices does first
        found = listed.find(call.model, call.provider, call.api_url)
        return found.cost(call.counts, call.when, call.context)
    except _ERRORS as error:
        return type(error).__name__


def _rows_of(model: Any) -> list[Any]:
    conditional = model.prices if isinstance(model.prices, list) else []
    return [*conditional, *(model.price_variants or ())]


def _prices_of(model: Any) -> list[Any]:
    whole = [] if isinstance(model.prices, list) else [model.prices]
    return [*whole, *(row.prices for row in _rows_of(model))]
