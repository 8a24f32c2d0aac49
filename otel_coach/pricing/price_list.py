"""Computes what LLM calls cost, by the user's own prices first, then by genai-prices' list."""

from __future__ import annotations

import json
import logging
import operator
import tomllib
from dataclasses import astuple, dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_logger = logging.getLogger("otel_coach")

_MILLION: Final = 1_000_000
_MAX_UNLISTED: Final = 1000
_GENAI_PRICES_PROVIDER: Final = {
    "amazon_bedrock": "aws",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "xai": "x-ai",
}
"""genai-prices' provider ids, by LangChain's `ls_provider`, where the two differ."""
_OLD_KINDS: Final = frozenset(
    {"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"}
)
"""The kinds of tokens that versions of genai-prices before 0.1 price correctly.

In those, `Usage` is a dataclass. They do not know caching for one hour, and do not consider that
cached tokens may be audio."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one LLM call, as its provider billed them.

    All fields but the first two are parts of others: `cached`, `cache_write` and `input_audio` of
    `prompt`, `cache_write_1h` of `cache_write`, `reasoning` and `output_audio` of `completion`.
    """

    prompt: int
    completion: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    input_audio: int = 0
    output_audio: int = 0

    @property
    def has_parts(self) -> bool:
        """Whether any part of the prompt or completion tokens is given."""
        return any(astuple(self)[2:])

    @property
    def contradicts_itself(self) -> bool:
        """Whether a part is larger than what it is a part of."""
        return (
            max(self.cached + self.cache_write, self.input_audio) > self.prompt
            or max(self.reasoning, self.output_audio) > self.completion
            or self.cache_write_1h > self.cache_write
        )

    def __add__(self, other: Usage) -> Usage:
        """Adds up the tokens of two parts of one call."""
        return Usage(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class OwnPrice:
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


_PRICE_KEYS: Final = frozenset(price.name for price in fields(OwnPrice))


def _or_default(price: float | None, default: float) -> float:
    return default if price is None else price


class PriceList:
    """Prices by model: those of `own` first, then the list that ships with genai-prices."""

    def __init__(self, own: Mapping[str, OwnPrice] | None = None) -> None:
        self._own = dict(own or {})
        self._unlisted: set[tuple[str, str | None]] = set()
        """Models, with their provider, that are not on the list: searching for those is slowest."""

    @classmethod
    def from_file(cls, path: str | None) -> PriceList:
        """Returns a price list with own prices from the JSON or TOML file at `path`, if any.

        The file maps a model's name to `input_mtok` and `output_mtok`, and optionally
        `cache_read_mtok`, `cache_write_mtok` and `cache_write_1h_mtok`, all in US dollars per
        million tokens. If the file cannot be used, that is logged, and the price list has no own
        prices.
        """
        if path is None:
            return cls()
        try:
            return cls(_read_prices(Path(path)))
        except (OSError, ValueError, OverflowError, RecursionError) as error:
            _logger.error(  # noqa: TRY400 - one line with the cure, no traceback
                "otel-coach: OTEL_COACH_PRICES=%r cannot be used (%s); the built-in price list is "
                "used. The file is JSON or TOML and maps a model to input_mtok and output_mtok.",
                path,
                error,
            )
            return cls()

    def load(self) -> None:
        """Imports genai-prices' list now, so that the first call of `cost` need not.

        If there are own prices, the list may never be needed. It is then imported for the first
        model without an own price, which saves its memory until then.
        """
        if not self._own:
            import_module("genai_prices")

    def cost(self, usage: Usage, models: tuple[str, ...], provider: str | None) -> float | None:
        """Returns the US dollars for `usage`, or None if none of `models` has a price.

        Own prices come first; within each list, the first of `models` that has a price is used.
        `provider` is LangChain's name for the provider (`ls_provider`).
        """
        for model in models:
            if (own := self._own.get(model)) is not None:
                return own.cost(usage)
        for model in models:
            if (model, provider) in self._unlisted:
                continue
            if (cost := _listed_cost(usage, model, provider)) is not None:
                return cost
            if len(self._unlisted) < _MAX_UNLISTED and not _is_listed(model, provider):
                self._unlisted.add((model, provider))
        return None


def _listed_cost(usage: Usage, model: str, provider: str | None) -> float | None:
    counts = {
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion,
        "cache_read_tokens": usage.cached,
        "cache_write_tokens": usage.cache_write,
        "cache_write_1h_tokens": usage.cache_write_1h,
        "input_audio_tokens": usage.input_audio,
        "output_audio_tokens": usage.output_audio,
    }
    # Zeros are left out: where parts overlap, genai-prices needs a price even for a part that is 0.
    return _listed_price({kind: n for kind, n in counts.items() if n}, model, provider)


def _is_listed(model: str, provider: str | None) -> bool:
    """Whether the list has the model, even if it has no price for some kind of token."""
    return _listed_price({}, model, provider) is not None


def _listed_price(tokens: Mapping[str, int], model: str, provider: str | None) -> float | None:
    import genai_prices  # noqa: PLC0415 - takes 0.2 s; not needed without LLM calls

    if is_dataclass(genai_prices.Usage) and not _OLD_KINDS.issuperset(tokens):
        return None
    usage = genai_prices.Usage(**tokens)
    for provider_id in _provider_ids(provider):
        try:
            return float(genai_prices.calc_price(usage, model, provider_id=provider_id).total_price)
        except (LookupError, ValueError):
            continue
    return None


def _provider_ids(provider: str | None) -> Iterable[str | None]:
    """Returns the provider ids to search the list with: the given provider's, then None for any."""
    return dict.fromkeys((_GENAI_PRICES_PROVIDER.get(provider or "", provider), None))


def _read_prices(path: Path) -> dict[str, OwnPrice]:
    text = path.read_text(encoding="utf-8")
    loaded: Any = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    if not isinstance(loaded, dict):
        message = "it is not a table of models"
        raise ValueError(message)  # noqa: TRY004 - a wrong file, not a wrong call
    prices: dict[str, OwnPrice] = {}
    for model, row in cast("dict[str, Any]", loaded).items():
        numbers: dict[str, float] = {}
        for key, value in row.items() if isinstance(row, dict) else [("row", row)]:
            if key not in _PRICE_KEYS or isinstance(value, bool) or not _is_price(value):
                message = f"{model!r}: {key!r} is not a price"
                raise ValueError(message)
            numbers[key] = float(value)
        if not {"input_mtok", "output_mtok"} <= numbers.keys():
            message = f"{model!r} lacks input_mtok or output_mtok"
            raise ValueError(message)
        prices[model] = OwnPrice(**numbers)
    return prices


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < float("inf")
