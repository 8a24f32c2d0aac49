"""Reads OpenAI's organisation usage and costs.

The format is that of the API reference: GET /v1/organization/usage/completions, .../embeddings and
/v1/organization/costs answer with pages of time buckets, whose results name their kind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from otel_coach.cli.reconciliation.figures import (
    InputError,
    Item,
    Report,
    dollars,
    items_of_buckets,
    token_count,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_COMPLETIONS: Final = "organization.usage.completions.result"
_EMBEDDINGS: Final = "organization.usage.embeddings.result"
_COSTS: Final = "organization.costs.result"
_REPORTS: Final = {
    _COMPLETIONS: Report("OpenAI", "completions"),
    _EMBEDDINGS: Report("OpenAI", "embeddings"),
    _COSTS: Report("OpenAI", "costs"),
}
_TIMES: Final = ("start_time", "end_time")

_ONE_WORD: Final = re.compile(r"[\w.:/-]+")


def is_page(document: Mapping[str, Any]) -> bool:
    """Whether `document` has the form of a page of OpenAI's usage or costs."""
    buckets = document.get("data")
    return document.get("object") == "page" and isinstance(buckets, list)


def items(document: Mapping[str, Any], where: str) -> Iterator[Item]:
    """Yields the lines of a page.

    Raises:
        InputError: It is no page of tokens or costs, or not split by model.
    """
    return items_of_buckets(document, where, times=_TIMES, empty=Report("OpenAI"), item=_item)


def _item(found: Mapping[str, Any], begin: float, end: float, where: str) -> Item:
    kind = str(found.get("object"))
    if kind == _COSTS:
        return _cost(found, begin, end, where)
    if kind not in {_COMPLETIONS, _EMBEDDINGS}:
        message = (
            f"{where} has results of the kind {kind[:80]}, which have no tokens to compare; "
            "export /v1/organization/usage/completions, .../embeddings or /v1/organization/costs"
        )
        raise InputError(message)
    if not isinstance(model := found.get("model"), str) or not model:
        message = f"{where} does not name the models; export it with group_by=model"
        raise InputError(message)
    if "input_tokens" not in found:
        message = f"{where} has a result without input_tokens; export it again"
        raise InputError(message)
    # Both counts include cached, audio and image tokens.
    tokens = sum(
        token_count(found.get(key), f"{where}: {key}") for key in ("input_tokens", "output_tokens")
    )
    return Item(_REPORTS[kind], begin, end, model, tokens)


def _cost(found: Mapping[str, Any], begin: float, end: float, where: str) -> Item:
    amount = found.get("amount")
    value, currency = (
        (amount.get("value"), amount.get("currency")) if isinstance(amount, dict) else (None, None)
    )
    if str(currency or "usd").lower() != "usd":
        message = f"{where} is in {str(currency)[:20]}; only costs in USD can be compared"
        raise InputError(message)
    usd = dollars(0 if value is None else value, f"{where}: amount.value")
    model, fee = _named(str(found.get("line_item") or ""))
    return Item(_REPORTS[_COSTS], begin, end, model, None, usd, fee)


def _named(line_item: str) -> tuple[str, str]:
    """Returns the model that a line item names, or what else it is for.

    Model and kind of token are one text: `gpt-4o-2024-08-06, cached input`, with a tier in front
    where there is one: `priority | gpt-5, output`. Others name a tool: `web search tool calls`.
    """
    name, comma, _ = line_item.rpartition("|")[2].strip().partition(",")
    is_model = bool(comma) or _ONE_WORD.fullmatch(name) is not None
    return (name.strip(), "") if is_model else ("", line_item)
