"""From tokens to US dollars: the user's own prices first, then the list that genai-prices keeps."""

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
_MOST_UNLISTED: Final = 1000
_GENAI_PRICES_PROVIDER: Final = {
    "amazon_bedrock": "aws",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "xai": "x-ai",
}
"""genai-prices' provider ids where LangChain's `ls_provider` differs."""
_OLD_KINDS: Final = frozenset(
    {"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"}
)
"""What a genai-prices before 0.1, whose `Usage` is a dataclass, prices rightly.

It knows no cache of an hour, and does not notice that cached tokens may be audio too."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one LLM call, as its provider billed them.

    All but the first two are parts of them: `cached`, `cache_write` and `input_audio` of `prompt`
    (and `cache_write_1h` of `cache_write`), `reasoning` and `output_audio` of `completion`.
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
        """Whether a part of the sums is known by itself."""
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
        """The tokens of two parts of one call."""
        return Usage(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """US dollars for a million tokens, as a price file gives them."""

    input_mtok: float
    output_mtok: float
    cache_read_mtok: float | None = None
    cache_write_mtok: float | None = None
    cache_write_1h_mtok: float | None = None

    def cost(self, usage: Usage) -> float:
        """US dollars for `usage`; cached tokens without a price of their own cost as input.

        Those kept for an hour cost as other ones that are written to the cache, unless the file
        says more; audio costs as text.
        """
        cache_read = _first(self.cache_read_mtok, self.input_mtok)
        cache_write = _first(self.cache_write_mtok, self.input_mtok)
        cache_write_1h = _first(self.cache_write_1h_mtok, cache_write)
        fresh = usage.prompt - usage.cached - usage.cache_write
        return (
            fresh * self.input_mtok
            + usage.cached * cache_read
            + (usage.cache_write - usage.cache_write_1h) * cache_write
            + usage.cache_write_1h * cache_write_1h
            + usage.completion * self.output_mtok
        ) / _MILLION


_PRICE_KEYS: Final = frozenset(price.name for price in fields(OwnPrice))


def _first(price: float | None, otherwise: float) -> float:
    return otherwise if price is None else price


class PriceList:
    """Prices by model: `own` ones first, then genai-prices' list, which ships with it."""

    def __init__(self, own: Mapping[str, OwnPrice] | None = None) -> None:
        self._own = dict(own or {})
        self._unlisted: set[tuple[str, str | None]] = set()
        """Models, by provider, that the list was searched for in vain: the slowest search."""

    @classmethod
    def from_file(cls, path: str | None) -> PriceList:
        """Read own prices from a JSON or TOML file; None means there are none.

        The file maps a model's name to `input_mtok` and `output_mtok`, and optionally
        `cache_read_mtok`, `cache_write_mtok` and `cache_write_1h_mtok`, all in US dollars for a
        million tokens. A file that cannot be used is one line in the log, and the price list
        goes on without it.
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
        """Import genai-prices' list now, so that the first call to `cost` need not.

        Who has prices of his own may never need it: then it is left to the first model that is
        not among them, and saves its memory until then.
        """
        if not self._own:
            import_module("genai_prices")

    def cost(self, usage: Usage, models: tuple[str, ...], provider: str | None) -> float | None:
        """US dollars for `usage` by the first of `models` that has a price; None if none has.

        `provider` is LangChain's name for it (`ls_provider`).
        """
        for model in models:
            if (own := self._own.get(model)) is not None:
                return own.cost(usage)
        for model in models:
            if (model, provider) in self._unlisted:
                continue
            if (cost := _listed_cost(usage, model, provider)) is not None:
                return cost
            if len(self._unlisted) < _MOST_UNLISTED and not _is_listed(model, provider):
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
    # A part of 0 that is named asks for prices of its own where it overlaps another one.
    return _listed_price({kind: n for kind, n in counts.items() if n}, model, provider)


def _is_listed(model: str, provider: str | None) -> bool:
    """Whether the list has the model at all, be it without a price for some kind of token."""
    return _listed_price({}, model, provider) is not None


def _listed_price(tokens: Mapping[str, int], model: str, provider: str | None) -> float | None:
    import genai_prices  # noqa: PLC0415 - 0.2 s that a host without LLM calls saves

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
    """By which to search the list: the one that is stated, then any."""
    return dict.fromkeys((_GENAI_PRICES_PROVIDER.get(provider or "", provider), None))


def _read_prices(path: Path) -> dict[str, OwnPrice]:
    text = path.read_text(encoding="utf-8")
    loaded: Any = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    if not isinstance(loaded, dict):
        message = "it is no table of models"
        raise ValueError(message)  # noqa: TRY004 - a wrong file, not a wrong call
    prices: dict[str, OwnPrice] = {}
    for model, row in cast("dict[str, Any]", loaded).items():
        numbers: dict[str, float] = {}
        for key, value in row.items() if isinstance(row, dict) else [("row", row)]:
            if key not in _PRICE_KEYS or isinstance(value, bool) or not _is_price(value):
                message = f"{model!r}: {key!r} is no price"
                raise ValueError(message)
            numbers[key] = float(value)
        if not {"input_mtok", "output_mtok"} <= numbers.keys():
            message = f"{model!r} lacks input_mtok or output_mtok"
            raise ValueError(message)
        prices[model] = OwnPrice(**numbers)
    return prices


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < float("inf")
