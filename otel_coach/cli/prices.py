"""Show what a call would cost and by which price, or write a newer list of prices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_coach.cli.terminal import say
from otel_coach.configuration.environment_variables import OTEL_COACH_PRICES
from otel_coach.configuration.names import hint, nearest
from otel_coach.pricing.convert import DISTRIBUTION, UnknownMeaningError, installed_version
from otel_coach.pricing.equivalence import DifferentPricesError, write_proven_list
from otel_coach.pricing.listed import (
    OLD_DAYS,
    SHIPPED,
    Found,
    ListedPrices,
    UnusableListError,
    is_list,
    is_newer,
)
from otel_coach.pricing.match import LITELLM
from otel_coach.pricing.price_list import CallDetails, PriceList, Usage
from otel_coach.pricing.prices import Tiers
from otel_coach.pricing.provider_names import names_of
from otel_coach.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from otel_coach.pricing.own_prices import OwnPrice

_MISUSED: Final = 2
_MAX_TRIES: Final = 5
_LIKENESS: Final = 0.85
"""How similar a model's name must be to be suggested, from 0 to 1.

It is high, because the names of a model's sizes are similar, too.
"""

EXAMPLES: Final = """\
  otel-coach prices gpt-4o-mini --prompt 1000 --completion 200
  otel-coach prices my-model                   by the file that OTEL_COACH_PRICES names
  otel-coach prices --update prices.tsv        for OTEL_COACH_PRICES"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, its provider, the tokens of the call, and `--update FILE`."""
    parser.add_argument("model", nargs="?", help="the model, as the application names it")
    parser.add_argument("--provider", help="as LangChain names it (ls_provider): openai, bedrock")
    parser.add_argument(
        "--prompt", type=tokens, default=0, metavar="N", help="prompt tokens of the call"
    )
    parser.add_argument(
        "--completion", type=tokens, default=0, metavar="N", help="completion tokens of the call"
    )
    parser.add_argument(
        "--update",
        type=Path,
        metavar="FILE",
        help="write the prices of an installed, newer genai-prices to FILE, for OTEL_COACH_PRICES",
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code.

    0; 1 if there is no price, or a list cannot be used or written; 2 if no model is named, or no
    newer genai-prices is installed.
    """
    if arguments.update is not None:
        return _update(arguments.update)
    if arguments.model is None:
        return _failed(
            "name a model (otel-coach prices gpt-4o-mini), or a file to --update", _MISUSED
        )
    return _show(arguments)


def state(own: Mapping[str, OwnPrice], listed: ListedPrices) -> Iterator[str]:
    """Yields which prices are used, and whether there are newer ones."""
    if own:
        yield f"prices: your own first, for {len(own)} model{'s' * (len(own) != 1)}"
    try:
        yield f"prices: {_origin(listed)}"
        used, shipped = listed.about.version, ListedPrices().about.version
    except UnusableListError as error:
        yield f"prices: NONE: {error}"
        return
    if is_newer(shipped, used):
        yield f"prices: the list that comes with otel-coach is newer: genai-prices {shipped}"
    if (installed := installed_version()) is not None and is_newer(installed, used):
        yield (
            f"prices: the installed genai-prices {installed} is newer, but not used: `otel-coach "
            "prices --update FILE` writes its list, OTEL_COACH_PRICES=FILE uses it"
        )


def _show(arguments: argparse.Namespace) -> int:
    settings = Settings.from_env()
    for problem in settings.problems:
        if problem.variable == OTEL_COACH_PRICES:
            print(problem, file=sys.stderr)
    prices = PriceList.from_file(settings.prices_file)
    usage = Usage(arguments.prompt, arguments.completion)
    model, provider = arguments.model, arguments.provider
    priced = prices.priced(usage, (model,), CallDetails(provider))
    others: list[str] = []
    try:
        if priced is None and provider is None:  # the model's name does not tell its provider
            provider, others = _provider_of(model, prices.listed)
            priced = prices.priced(usage, (model,), CallDetails(provider)) if provider else None
        if priced is None:
            return _failed(_why_none(model, provider, others, prices.listed), 1)
    except UnusableListError as error:
        return _failed(str(error), 1)
    entry = priced.entry
    lines = _listed(entry, prices.listed) if isinstance(entry, Found) else _own(entry)
    for line in lines:
        say(line)
    if any(usage):
        say(
            f"{usage.prompt:,} prompt and {usage.completion:,} completion tokens cost "
            f"{priced.usd:.10g} USD"
        )
    if others:
        say(f"also offered by {', '.join(others)}: --provider names one")
    return 0


def _provider_of(model: str, listed: ListedPrices) -> tuple[str | None, list[str]]:
    """Returns the provider that must be meant, if there is one, and the others with the model."""
    found = listed.offering(model)
    if found and (len(found) == 1 or listed.is_found_by_models(found[0])):
        return found[0], found[1:]
    return None, found


def _why_none(model: str, provider: str | None, others: list[str], listed: ListedPrices) -> str:
    """Returns why there is no price, with the cure."""
    if others:
        return (
            f"{model} has a price of each provider that offers it. Cure: name yours: --provider "
            f"{others[0]} (or {', '.join(others[1:])})"
        )
    own_id = None
    if provider is not None:
        name = names_of(provider).listed
        own_id = listed.provider(name)
        if own_id is None and name.lower() != LITELLM:
            meant = nearest(name, listed.providers())
            return (
                f"the price list has no provider {provider}{hint(meant)}. Cure: --provider "
                f"{meant or 'openai'}; there are {', '.join(listed.providers())}"
            )
    of = f" of {provider}" if provider else ""
    meant = _similar(model.lower(), own_id, listed)
    return (
        f"{model}{of} has no price{hint(meant)}; calls of it count as no_price. Cure: a price of "
        f'your own in the file of OTEL_COACH_PRICES: {{"{model}": '
        '{"input_mtok": 1.0, "output_mtok": 2.0}}'
    )


def _similar(model: str, provider: str | None, listed: ListedPrices) -> str | None:
    """Returns the most similar name that has a price.

    `listed.names()` also yields ids under which no price is found; those are skipped.
    """
    names = {*listed.names(provider)} - {model}
    for _ in range(_MAX_TRIES):
        meant = nearest(model, names, _LIKENESS)
        if meant is None:
            return None
        offered = listed.offering(meant)
        if (provider in offered) if provider else offered:
            return meant
        names.discard(meant)
    return None


def _own(entry: OwnPrice) -> Iterator[str]:
    yield "your own price, from the file of OTEL_COACH_PRICES:"
    for key, price in entry._asdict().items():
        if price is not None:
            yield f"  {key}: {price:g} USD per 1,000,000"


def _listed(entry: Found, listed: ListedPrices) -> Iterator[str]:
    lent = "" if entry.owner == entry.provider else f", which {entry.provider} offers too"
    yield f"{entry.model.id} of {entry.owner}{lent}, in {_origin(listed)}:"
    for unit, price in entry.prices().by_unit:
        base, tiers = (price.base, price.tiers) if isinstance(price, Tiers) else (price, ())
        more = "".join(
            f"; {usd:f} for all tokens of a call with more than {start:,} input tokens"
            for start, usd in tiers
        )
        yield f"  {unit.price_key}: {base:f} USD per {unit.per:,}{more}"


def _origin(listed: ListedPrices) -> str:
    version, day = listed.about
    age = listed.about.age_days()
    old = ", which is old" if age > OLD_DAYS else ""
    where = "otel-coach's list" if listed.path == SHIPPED else f"the list {listed.path}"
    return f"{where}, genai-prices {version} of {day} ({age} days ago{old})"


def _update(path: Path) -> int:
    shipped = ListedPrices().about.version
    installed = installed_version()
    cure = f"{sys.executable} -m pip install --upgrade {DISTRIBUTION}"
    if installed is None:
        return _failed(f"{DISTRIBUTION} is not installed here; install it with: {cure}", _MISUSED)
    if not is_newer(installed, shipped):
        return _failed(
            f"the installed {DISTRIBUTION} {installed} is not newer than otel-coach's list, which "
            f"is that of {shipped}; install a newer one with: {cure}",
            _MISUSED,
        )
    try:
        if path.exists() and not is_list(path):
            return _failed(f"{path} is there, and is no list of prices; name another file", 1)
        count = write_proven_list(path)
    except (DifferentPricesError, UnknownMeaningError) as error:
        return _failed(f"{DISTRIBUTION} {installed} needs a newer otel-coach: {error}", 1)
    except OSError as error:
        return _failed(f"{path} cannot be written ({error.strerror})", 1)
    say(f"{path}: {_origin(ListedPrices(path))}")
    say(f"the prices of {count:,} calls by it are what {DISTRIBUTION} itself calculates")
    say(f"to use it, set OTEL_COACH_PRICES={path.absolute()}")
    return 0


def tokens(text: str) -> int:
    """Reads a number of tokens."""
    count = int(text)
    if count < 0:
        raise ValueError(text)
    return count


def _failed(why: str, code: int) -> int:
    say(why, sys.stderr)
    return code
