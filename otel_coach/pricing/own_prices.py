"""The user's own prices, read from the file of `OTEL_COACH_PRICES`.

The file is JSON or TOML that maps a model's name to `input_mtok` and `output_mtok`, and optionally
`cache_read_mtok`, `cache_write_mtok` and `cache_write_1h_mtok`, all in US dollars per million
tokens. There, `list` may be the path of a list of all providers, as `otel-coach prices --update`
writes it. Or the file is such a list itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from otel_coach.pricing.listed import ListedPrices, UnusableListError, is_list

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from otel_coach.pricing.usage import Usage

UNUSABLE: Final = (OSError, ValueError, OverflowError, RecursionError, UnusableListError)
"""What `read_file` raises if the file cannot be used."""
_MILLION: Final = 1_000_000
_LIST: Final = "list"
"""The key under which the path of a list of all providers may stand."""


class OwnPrice(NamedTuple):
    """A model's prices in US dollars per million tokens, as given in a price file."""

    input_mtok: float
    output_mtok: float
    cache_read_mtok: float | None = None
    cache_write_mtok: float | None = None
    cache_write_1h_mtok: float | None = None

    def cost(self, usage: Usage) -> float:
        """Returns the US dollars for `usage`.

        Cached tokens without a price of their own cost the same as input. Tokens cached for one
        hour without a price of their own cost the same as other cache writes. Audio costs the same
        as text.
        """
        cache_read = _or_default(self.cache_read_mtok, self.input_mtok)
        cache_write = _or_default(self.cache_write_mtok, self.input_mtok)
        cache_write_1h = _or_default(self.cache_write_1h_mtok, cache_write)
        uncached = usage.prompt - usage.cached - usage.cache_write
        return (
            uncached * self.input_mtok
            + usage.cached * cache_read
            + (usage.cache_write - usage.cache_write_1h) * cache_write
            + usage.cache_write_1h * cache_write_1h
            + usage.completion * self.output_mtok
        ) / _MILLION


_PRICE_KEYS: Final = frozenset(OwnPrice._fields)


def unusable_line(path: str, error: BaseException) -> str:
    """Returns the line for the log about a file that cannot be used."""
    return f"OTEL_COACH_PRICES={path} cannot be used ({error}); the built-in price list is used"


def read_file(path: Path) -> tuple[dict[str, OwnPrice], ListedPrices | None]:
    """Returns own prices by model, and the list of all providers, that the file has or names.

    Raises one of `UNUSABLE` if it cannot be used.
    """
    if is_list(path):
        return {}, _loaded(path)
    loaded = _read_table(path)
    if not isinstance(other := loaded.get(_LIST), str):
        return _own_prices(loaded), None
    del loaded[_LIST]
    return _own_prices(loaded), _loaded(path.parent / other)


def _loaded(path: Path) -> ListedPrices:
    listed = ListedPrices(path)
    _ = listed.units  # checks it
    return listed


def _read_table(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - few have such a file

    text = path.read_text(encoding="utf-8")
    loaded: Any = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    if not isinstance(loaded, dict):
        message = "it is not a table of models"
        raise ValueError(message)  # noqa: TRY004 - a wrong file, not a wrong call
    return cast("dict[str, Any]", loaded)


def _own_prices(table: Mapping[str, Any]) -> dict[str, OwnPrice]:
    prices: dict[str, OwnPrice] = {}
    for model, row in table.items():
        numbers: dict[str, float] = {}
        if not isinstance(row, dict):
            message = f"{model!r} has no table of prices, but {row!r}"
            raise ValueError(message)  # noqa: TRY004 - as above
        for key, value in cast("dict[str, Any]", row).items():
            if key not in _PRICE_KEYS:
                message = f"{model!r}: there is no price {key!r}, but {', '.join(OwnPrice._fields)}"
                raise ValueError(message)
            if not _is_price(value):
                message = f"{model!r}: {key}={value!r} is not a number of 0 or more"
                raise ValueError(message)
            numbers[key] = float(value)
        if not {"input_mtok", "output_mtok"} <= numbers.keys():
            message = f"{model!r} lacks input_mtok or output_mtok"
            raise ValueError(message)
        prices[model] = OwnPrice(**numbers)
    return prices


def _is_price(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < float("inf")


def _or_default(price: float | None, default: float) -> float:
    return default if price is None else price
