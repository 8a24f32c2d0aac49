"""Reads the usage and cost reports of Anthropic's Admin API.

The format is that of the API reference: GET /v1/organizations/usage_report/messages and
/v1/organizations/cost_report answer with pages of time buckets.
"""

from __future__ import annotations

from decimal import Decimal
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

_USAGE: Final = Report("Anthropic", "usage")
_COSTS: Final = Report("Anthropic", "costs")
_TIMES: Final = ("starting_at", "ending_at")
_COUNTS: Final = ("uncached_input_tokens", "cache_read_input_tokens", "output_tokens")
_CACHE_WRITES: Final = ("ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens")
_CENTS: Final = Decimal(100)


def is_page(document: Mapping[str, Any]) -> bool:
    """Whether `document` has the form of a page of Anthropic's reports."""
    buckets = document.get("data")
    if not isinstance(buckets, list) or "has_more" not in document or "object" in document:
        return False
    return all(isinstance(bucket, dict) and "starting_at" in bucket for bucket in buckets)


def items(document: Mapping[str, Any], where: str) -> Iterator[Item]:
    """Yields the lines of a page.

    Raises:
        InputError: It is no page of tokens or costs, or not split by model.
    """
    return items_of_buckets(document, where, times=_TIMES, empty=Report("Anthropic"), item=_item)


def _item(found: Mapping[str, Any], begin: float, end: float, where: str) -> Item:
    model = found.get("model")
    name = model if isinstance(model, str) else ""
    if "amount" in found:
        if (currency := str(found.get("currency") or "USD")).upper() != "USD":
            message = f"{where} is in {currency[:20]}; only costs in USD can be compared"
            raise InputError(message)
        # The reference says: in the lowest unit of the currency, which is the cent.
        usd = dollars(found["amount"], f"{where}: amount") / _CENTS
        fee = "" if name else str(found.get("description") or found.get("cost_type") or "")
        return Item(_COSTS, begin, end, name, None, usd, fee)
    if "uncached_input_tokens" not in found:
        message = (
            f"{where} has results with neither uncached_input_tokens nor amount; export "
            "/v1/organizations/usage_report/messages or /v1/organizations/cost_report"
        )
        raise InputError(message)
    if not name:
        message = f"{where} does not name the models; export it with group_by[]=model"
        raise InputError(message)
    tokens = sum(token_count(found.get(key), f"{where}: {key}") for key in _COUNTS)
    writes = found.get("cache_creation")
    if isinstance(writes, dict):
        tokens += sum(token_count(writes.get(key), f"{where}: {key}") for key in _CACHE_WRITES)
    return Item(_USAGE, begin, end, name, tokens)
