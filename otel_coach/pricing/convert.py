"""Writes a list of prices from an installed genai-prices.

What is not known here is refused, not left out: a new field or clause may change what a price
means.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from otel_coach.pricing.listed import FORMAT, FORMAT_KEY
from otel_coach.pricing.price_list import USAGE_KEYS
from otel_coach.pricing.units import Units

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import time

DISTRIBUTION: Final = "genai-prices"
_NOTICE: Final = "MIT, Copyright (c) Pydantic Services Inc. 2025 to present"
_UNITS: Final = "units"
_PROVIDERS: Final = "providers"

_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(known.split())
    for name, known in {
        "Provider": "id name api_pattern pricing_urls description price_comments model_match "
        "provider_match extractors fallback_model_providers models",
        "ModelInfo": "id match name description context_window price_comments deprecated prices "
        "price_variants",
        "ConditionalPrice": "constraint prices",
        "PriceVariant": "when prices constraint",
        "StartDateConstraint": "start_date",
        "TimeOfDateConstraint": "start_time end_time",
        "TieredPrices": "base tiers",
        "Tier": "start price",
        "ClauseEquals": "equals",
        "ClauseStartsWith": "starts_with",
        "ClauseEndsWith": "ends_with",
        "ClauseContains": "contains",
        "ClauseRegex": "regex",
        "ClauseOr": "or_",
        "ClauseAnd": "and_",
    }.items()
}
"""The fields of genai-prices' classes whose meaning is known."""
_UNIT_FIELDS: Final = frozenset({"price_key", "per", "dimensions"})
_SIGNS: Final = {
    "ClauseEquals": "=",
    "ClauseStartsWith": "^",
    "ClauseEndsWith": "$",
    "ClauseContains": "~",
}
_LEAST_SECONDS: Final = {("groq", "whisper-large-v3"): 10, ("groq", "whisper-large-v3-turbo"): 10}
"""Minima that stand in genai-prices' code, not in its data, by provider and model."""
_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9:/_-]|\\[./-])+")
"""Matches a regular expression that itself matches only one text."""
_DAY: Final = re.compile(r"\b20\d\d-\d\d-\d\d\b")


class UnknownMeaningError(Exception):
    """The data have, at `where`, something whose meaning is not known; `what` names it."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}. Its meaning is not known to otel-coach.")


def installed_version() -> str | None:
    """Returns the version of the installed genai-prices, None if there is none."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def installed_list(day: date | None = None) -> bytes:
    """Returns the list of the installed genai-prices, as a file has it.

    Its day is the youngest one that the prices name and that is not in the future, unless another
    `day` is given.

    Raises:
        UnknownMeaningError: genai-prices has something whose meaning is not known.
    """
    try:
        providers: list[Any] = import_module("genai_prices.data").providers
        units: Mapping[str, Any] = import_module("genai_prices.data_units").unit_data
    except (ImportError, AttributeError) as error:
        raise UnknownMeaningError(DISTRIBUTION, str(error)) from error
    day = day or _youngest_day(providers, datetime.now(UTC).date())
    return as_file(providers, units, installed_version() or "", day)


def as_file(providers: list[Any], units: Mapping[str, Any], genai_prices: str, day: date) -> bytes:
    """Returns the list of these providers, in the format that `listed.py` describes.

    Raises:
        UnknownMeaningError: the data have something whose meaning is not known.
    """
    table = {key: _unit(key, unit) for key, unit in units.items()}
    if len({tuple(sorted(row[2].items())) for row in table.values()}) < len(table):
        raise UnknownMeaningError(_UNITS, "two with the same dimensions")
    if missing := {*USAGE_KEYS} - table.keys():
        raise UnknownMeaningError(_UNITS, f"none for {', '.join(sorted(missing))}")
    heads: list[list[Any]] = []
    lines: list[str] = []
    price_keys = Units(table).by_price_key.keys()
    start = 0
    for provider in providers:
        models = "".join(_models(provider, price_keys))
        heads.append(_head(provider, start, len(models)))
        start += len(models)
        lines.append(models)
    if len({head[0] for head in heads}) < len(heads):
        raise UnknownMeaningError(_PROVIDERS, "two with the same id")
    body = "".join([f"{_json(table)}\n{_json(heads)}\n", *lines]).encode("ascii")
    line = {
        FORMAT_KEY: FORMAT,
        "genai_prices": genai_prices,
        "licence": _NOTICE,
        "day": day.isoformat(),
        "crc32": f"{crc32(body):08x}",
    }
    return f"{_json(line)}\n".encode() + body


def _head(provider: Any, start: int, length: int) -> list[Any]:
    where = f"provider {provider.id}"
    return [
        provider.id,
        start,
        length,
        _address(provider.api_pattern, where),
        _clause(provider.model_match, where),
        _clause(provider.provider_match, where),
        provider.fallback_model_providers or [],
    ]


def _models(provider: Any, price_keys: Any) -> Iterator[str]:
    _check(provider, _PROVIDERS)
    for model in provider.models:
        where = f"{provider.id}/{model.id}"
        _check(model, where)
        match = _clause(model.match, where, model.id)
        prices: Any = model.prices
        if isinstance(prices, list):
            prices = [
                [_constraint(_check(row, where).constraint, where), row.prices] for row in prices
            ]
            for row in prices:
                row[1] = _prices(row[1], where, price_keys)
            if not prices:
                raise UnknownMeaningError(where, "no prices")
        else:
            prices = _prices(prices, where, price_keys)
        variants = [
            [
                _context(_check(variant, where).when, where),
                _constraint(variant.constraint, where),
                _prices(variant.prices, where, price_keys),
            ]
            for variant in model.price_variants or ()
        ]
        least_seconds = _LEAST_SECONDS.get((provider.id, model.id), 0)
        yield f"{_json([model.id, match])}\t{_json([prices, variants, least_seconds])}\n"


def _prices(prices: Any, where: str, known: Any) -> dict[str, Any]:
    if type(prices).__name__ != "ModelPrice":
        raise UnknownMeaningError(where, f"a {type(prices).__name__}")
    given = {key: value for key, value in vars(prices).items() if value is not None}
    if unknown := given.keys() - known:
        raise UnknownMeaningError(where, f"a price {', '.join(sorted(unknown))}")
    return {key: _price(value, f"{where} {key}") for key, value in given.items()}


def _price(value: Any, where: str) -> Any:
    if isinstance(value, Decimal):
        return _number(value, where)
    _check(value, where)
    tiers = [(_check(tier, where).start, _number(tier.price, where)) for tier in value.tiers]
    starts = [start for start, _ in tiers]
    if starts != sorted(starts) or not all(type(start) is int and start >= 0 for start in starts):
        raise UnknownMeaningError(where, f"tiers from {starts}")
    return [_number(value.base, where), *tiers]


def _number(value: Any, where: str) -> int | float:
    """Returns the price as a JSON number that is read back as exactly this Decimal."""
    if not isinstance(value, Decimal) or not value.is_finite() or value < 0:
        raise UnknownMeaningError(where, f"a price of {value!r}")
    number = int(value) if value == value.to_integral_value() else float(value)
    if Decimal(repr(number)) != value:
        raise UnknownMeaningError(where, f"a price of {value!r}")
    return number


def _constraint(constraint: Any, where: str) -> Any:
    if constraint is None:
        return None
    _check(constraint, where)
    match type(constraint).__name__:
        case "StartDateConstraint":
            if type(constraint.start_date) is not date:
                raise UnknownMeaningError(where, f"a start date {constraint.start_date!r}")
            return constraint.start_date.isoformat()
        case "TimeOfDateConstraint":
            return [_in_utc(constraint.start_time), _in_utc(constraint.end_time)]
        case other:
            raise UnknownMeaningError(where, f"a {other}")


def _in_utc(moment: time) -> str:
    if moment.tzinfo is not None:
        on_a_day = datetime.combine(date(1970, 1, 1), moment)
        moment = on_a_day.astimezone(UTC).time()
    return moment.isoformat()


def _context(when: Any, where: str) -> dict[str, str]:
    pairs = when.items() if isinstance(when, dict) else ()
    if not pairs or not all(isinstance(one, str) for pair in pairs for one in pair):
        raise UnknownMeaningError(where, f"a context {when!r}")
    return when


def _clause(clause: Any, where: str, own_id: str = "") -> Any:
    if clause is None:
        return None
    _check(clause, where)
    kind = type(clause).__name__
    match kind:
        case "ClauseOr":
            return [_clause(one, where, own_id) for one in clause.or_]
        case "ClauseAnd":
            return {"all": [_clause(one, where, own_id) for one in clause.and_]}
        case "ClauseRegex":
            return f"/{_compiled(clause.regex, where)}"
        case kind if kind in _SIGNS:
            (text,) = vars(clause).values()
            text = text.lower()
            if not text:
                raise UnknownMeaningError(where, f"an empty {kind}")
            is_own = kind == "ClauseEquals" and text == own_id.lower()
            return _SIGNS[kind] + ("" if is_own else text)
        case other:
            raise UnknownMeaningError(where, f"a {other}")


def _address(pattern: str, where: str) -> str:
    if _LITERAL.fullmatch(pattern):
        return "^" + pattern.replace("\\", "")
    return f"/{_compiled(pattern, where)}"


def _compiled(pattern: str, where: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UnknownMeaningError(where, f"the regular expression {pattern!r}") from error
    return pattern


def _unit(key: str, unit: Any) -> tuple[str, int, dict[str, str]]:
    if not isinstance(unit, dict) or unit.keys() != _UNIT_FIELDS:
        raise UnknownMeaningError(_UNITS, f"{key}: {unit!r}")
    return unit["price_key"], unit["per"], unit["dimensions"]


def _check(thing: Any, where: str) -> Any:
    """Returns `thing` if its class is known and has exactly the fields that are known."""
    kind = type(thing).__name__
    known = _FIELDS.get(kind)
    if known is None or not is_dataclass(thing):
        raise UnknownMeaningError(where, f"a {kind}")
    if others := known ^ {field.name for field in fields(thing)}:
        raise UnknownMeaningError(where, f"a {kind} with other fields: {', '.join(sorted(others))}")
    return thing


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _youngest_day(providers: list[Any], today: date) -> date:
    named: set[str] = set()
    for provider in providers:
        for about in (provider, *provider.models):
            named.update(_DAY.findall(about.price_comments or ""))
        for model in provider.models:
            rows = [*(model.price_variants or ())]
            rows += model.prices if isinstance(model.prices, list) else []
            for row in rows:
                named.add(str(getattr(row.constraint, "start_date", "")))
    days = (day for day in named if _DAY.fullmatch(day) and day <= today.isoformat())
    return date.fromisoformat(max(days))
