"""From tokens to US dollars: the user's own prices come first, then the list of all providers."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.pricing.listed import Found, ListedPrices, UnusableListError, is_newer
from otel_coach.pricing.own_prices import UNUSABLE, OwnPrice, read_file, unusable_line
from otel_coach.pricing.provider_names import BEDROCK, names_of
from otel_coach.pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["CallDetails", "PriceList", "Priced", "Usage"]

_logger = logging.getLogger("otel_coach")

USAGE_KEYS: Final = {
    "input_tokens": "prompt",
    "output_tokens": "completion",
    "cache_read_tokens": "cached",
    "cache_write_tokens": "cache_write",
    "cache_write_1h_tokens": "cache_write_1h",
    "input_audio_tokens": "input_audio",
    "output_audio_tokens": "output_audio",
}
"""The list's names for what is counted, with the fields of `Usage`."""
_IMAGES: Final = "output_image_tokens"
_counts_of: Final = attrgetter(*USAGE_KEYS.values())
_STANDARD_PRICE: Final = {"groq": {"flex"}}  # console.groq.com/docs/flex-processing
"""Tiers for which a provider takes its standard price."""
FAST_MODE: Final = "fast mode"
"""Anthropic's, which is priced like a service tier. OpenAI has a service tier `fast`."""
_MANTLE: Final = re.compile(r"bedrock-mantle\.[a-z0-9-]+\.api\.aws")
"""Amazon Bedrock's host for the protocols of OpenAI and Anthropic, which the list does not have."""
_CONTEXTS: Final = {"batch": {"processing": "batch"}, FAST_MODE: {"speed": "fast"}, "": {}}
"""What the list calls a tier, where it does not call it a service tier."""


class CallDetails(NamedTuple):
    """What the price of a call depends on, besides its tokens and its model."""

    provider: str | None = None
    """The provider's name, as the list, LangChain or the provider itself has it. If None, the list
    is searched for the model alone."""
    api_url: str | None = None
    """The address that was asked, if it is known; the provider is then found by it alone."""
    tier: str | None = None
    """The service tier that the answer names, None for the standard one."""
    fees: Mapping[str, int] = {}
    """What is paid besides tokens, such as searches: counts by the list's names, if it has any."""
    included: Mapping[str, int] = {}
    """Like `fees`, but covered by the token price unless the entry has a price of its own for it:
    so never reported as unpaid."""


class Priced(NamedTuple):
    """What a call costs, and by which entry."""

    usd: float
    entry: OwnPrice | Found
    unpaid: Sequence[str] = ()
    """The fees that the entry has no price for; they are not in `usd`."""


_ANY: Final = CallDetails()


class PriceList:
    """Prices by model: those of `own` first, then a list of all providers.

    Args:
        own: the user's own prices by model.
        listed: the list of all providers, the one that comes with otel-coach by default.
        gateways: maps the host (or host:port) of each of the user's own gateways to the list's
            provider behind it.
    """

    def __init__(
        self,
        own: Mapping[str, OwnPrice] | None = None,
        listed: ListedPrices | None = None,
        gateways: Mapping[str, str] | None = None,
    ) -> None:
        self.own = dict(own or {})
        self.listed = listed or ListedPrices()
        self._gateways = dict(gateways or {})
        self._is_unusable_logged = False

    @classmethod
    def from_file(cls, path: str | None, gateways: Mapping[str, str] | None = None) -> PriceList:
        """Returns a price list with the own prices, or the list, that the file at `path` has.

        If the file cannot be used, that is logged, and the price list is otel-coach's alone.
        """
        if path is None:
            return cls(gateways=gateways)
        try:
            own, listed = read_file(Path(path))
            prices = cls(own, listed, gateways)
            prices._warn_if_older()
        except UNUSABLE as error:
            _logger.error(  # noqa: TRY400 - one line with the cure, no traceback
                "otel-coach: %s. Cure: %s",
                unusable_line(path, error),
                "a file in JSON or TOML that maps a model to input_mtok and output_mtok, or one "
                "that `otel-coach prices --update` has written",
            )
            return cls(gateways=gateways)
        return prices

    def age_days(self) -> int | None:
        """Returns how many days old the list of all providers is, None if it cannot be read."""
        try:
            return self.listed.about.age_days()
        except UnusableListError as error:
            return self._log_unusable(error)

    def priced(
        self, usage: Usage, models: tuple[str, ...], call: CallDetails = _ANY
    ) -> Priced | None:
        """Returns the US dollars for a call, or None if none of `models` has a price.

        Own prices come first; within each list, the first of `models` that has a price is used. The
        list's price of a model is only that of the provider that was asked: the same model may
        cost something else elsewhere.
        """
        for model in models:
            if (own := self.own.get(model)) is not None:
                return Priced(own.cost(usage), own, tuple(call.fees))
        try:
            return self._listed(usage, models, call)
        except UnusableListError as error:
            return self._log_unusable(error)

    def _listed(self, usage: Usage, models: tuple[str, ...], call: CallDetails) -> Priced | None:
        given = zip(USAGE_KEYS, _counts_of(usage), strict=True)
        counts = {key: count for key, count in given if count}
        now = datetime.now(UTC)
        context = _CONTEXTS.get(call.tier or "", {"service_tier": call.tier or ""})
        provider = None if call.provider is None else names_of(call.provider).listed
        api_url = call.api_url
        if api_url is not None:
            name = _name(api_url)
            provider = self._gateways.get(_host(api_url)) or self._gateways.get(name)
            if provider is None and _MANTLE.fullmatch(name):
                provider = BEDROCK.listed
            if provider is not None:
                api_url = None
        for model in models:
            try:
                found = self.listed.find(model, provider, api_url)
                if call.tier and not self._has_price_for_tier(found, call.tier, context):
                    continue  # the standard price would be a wrong one
                more = {**call.included, **call.fees, **_parts_of(usage)}
                paid = {key: count for key, count in more.items() if found.has_price_for(key)}
                usd = float(found.cost({**counts, **paid}, now, context))
                return Priced(usd, found, tuple(_unpaid(call, usage, found)))
            except (LookupError, ValueError):
                continue
        return None

    @staticmethod
    def _has_price_for_tier(found: Found, tier: str, context: Mapping[str, str]) -> bool:
        return tier in _STANDARD_PRICE.get(found.provider, ()) or found.has_variant(context)

    def _log_unusable(self, error: UnusableListError) -> None:
        """Logs, once, that the list cannot be used."""
        if not self._is_unusable_logged:
            self._is_unusable_logged = True
            _logger.error(
                "otel-coach: %s. Until this is mended, only models that this process has priced "
                "before, or that have a price of your own, have one",
                error,
            )

    def _warn_if_older(self) -> None:
        used, shipped = self.listed.about, ListedPrices().about
        if is_newer(shipped.version, used.version):
            _logger.warning(
                "otel-coach: the price list %r (genai-prices %s) is used, though otel-coach's own "
                "(%s) is newer; `otel-coach prices --update` writes a newer one.",
                str(self.listed.path),
                used.version,
                shipped.version,
            )


def _parts_of(usage: Usage) -> dict[str, int]:
    """Returns the parts of the completion that have a price of their own in some entries."""
    parts = {
        "output_reasoning_tokens": usage.reasoning,
        "output_citation_tokens": usage.citation,
        _IMAGES: usage.output_image,
    }
    return {key: count for key, count in parts.items() if count}


def _unpaid(call: CallDetails, usage: Usage, found: Found) -> Iterator[str]:
    yield from (fee for fee in call.fees if not found.has_price_for(fee))
    # Few integrations tell how many tokens of a completion are those of images, which cost more.
    is_told = usage.output_image or usage.completion <= usage.reasoning + usage.output_text
    if not is_told and found.has_price_for(_IMAGES):
        yield _IMAGES
    # OpenAI bills audio tokens at prices of their own. Where a model's entry has none, the price of
    # its text tokens does not cover them.
    if found.owner == "openai":
        for key, count in (
            ("input_audio_tokens", usage.input_audio),
            ("output_audio_tokens", usage.output_audio),
        ):
            if count and not found.has_price_for(key):
                yield key


def _host(url: str) -> str:
    """Returns the host of `url`, with its port if it names one."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()


def _name(url: str) -> str:
    """Returns the host of `url` without its port."""
    host = _host(url)
    name, _, port = host.rpartition(":")
    return name if port.isdecimal() else host
