"""What an answer says about its bill: tokens, service tier, fees and, rarely, the cost itself."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_coach.core.plain import text_of
from otel_coach.core.record import record
from otel_coach.instrumentors.genai.usage_blocks import (
    as_mapping,
    as_sequence,
    count_at,
    tier_of_details,
    usage_in,
    value_at,
)
from otel_coach.metrics.labels import OTHER, label_value
from otel_coach.pricing.price_list import FAST_MODE
from otel_coach.pricing.provider_names import BEDROCK, names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_coach.pricing.usage import Usage

_STANDARD_TIERS: Final = frozenset({"auto", "default", "on_demand", "standard", "standard_only"})
_USAGE_KEYS: Final = ("token_usage", "usage", "usage_metadata", "token_count")
"""The keys under which metadata have a usage block."""
_REASON_KEYS: Final = ("finish_reason", "stop_reason", "done_reason", "stopReason")
_REASON: Final = re.compile(r"[\w.-]{1,40}")
_SEARCHES: Final = "web_searches"
_BILLS_PROMPTS: Final = re.compile(r"gemini-[12](?:\D|$)")
_US_INFERENCE: Final = "inference in the US"
"""Claude costs a tenth more there, which the price list does not know
(docs.claude.com, Pricing, Data residency)."""
_FEES_OF_ITEMS: Final = {
    "code_interpreter_call": "code_executions",
    "file_search_call": "storage_searches",
    "image_generation_call": "images",
    "web_search_call": _SEARCHES,
}
"""Items of OpenAI's Responses API that are paid besides tokens, with the price list's names."""
_PAID_ACTIONS: Final = (None, "search")
"""The actions of an item that are paid; None is that of an item without an action. Of the actions
of a `web_search_call`, only the search is (platform.openai.com/docs/guides/tools-web-search)."""
_FEES_OF_USAGE: Final = {
    "server_tool_use.web_search_requests": _SEARCHES,
    "server_tool_use_details.web_search_requests": _SEARCHES,
    "num_sources_used": "social_searches",
}
"""Counts in usage blocks that are paid besides tokens: Anthropic's, OpenRouter's, xAI's."""
_PERPLEXITY_SEARCHES: Final = "num_search_queries"
_COSTS: Final = ("cost", "cost.total_cost")
"""Where a usage block states its cost in US dollars: OpenRouter's, Perplexity's."""
_UPSTREAM_COST: Final = "cost_details.upstream_inference_cost"
"""What a user of OpenRouter pays to the provider itself, by a key of their own (`is_byok`)."""


class BilledMessage(NamedTuple):
    """The parts of one message from which the bill of its call is read."""

    usage_metadata: object = None
    response_metadata: object = None
    """Also a text model's `generation_info`."""
    items: Sequence[str] = ()
    """The types of the items in its content that are paid besides tokens."""


@record
class Billing:
    """The parts of an answer from which its bill is read; its content is not kept."""

    messages: tuple[BilledMessage, ...] = ()
    llm_output: object = None

    @cached_property
    def blocks(self) -> tuple[Mapping[str, Any], ...]:
        """The mappings that may be, or have, a usage block; LangChain's own first."""
        return tuple(_blocks(self))

    @cached_property
    def metadata(self) -> tuple[Mapping[str, Any], ...]:
        """The metadata of the messages."""
        return tuple(_mappings(message.response_metadata for message in self.messages))


def billing_of(response: object) -> Billing:
    """Returns the part of an LLMResult from which usage, models and finish reasons are read."""
    messages: list[BilledMessage] = []
    for generation in generations_of(response):
        message = getattr(generation, "message", None)
        if message is None:
            messages.append(BilledMessage(None, getattr(generation, "generation_info", None)))
            continue
        metadata = getattr(message, "response_metadata", None)
        messages.append(
            BilledMessage(
                getattr(message, "usage_metadata", None),
                _unusable_answer(metadata) or metadata,
                tuple(_paid_items(message)),
            )
        )
    return Billing(tuple(messages), getattr(response, "llm_output", None))


def generations_of(response: object) -> Iterator[object]:
    """Yields the generations of an LLMResult, for all its prompts."""
    for generations in as_sequence(getattr(response, "generations", None)):
        yield from as_sequence(generations)


def paid_items_in(kinds: Iterable[tuple[object, object]]) -> tuple[str, ...]:
    """Returns the types of those items of an answer that are paid besides tokens.

    `kinds` are the type of each item, and that of its action, None if it has none.
    """
    return tuple(
        kind
        for kind, action in kinds
        if isinstance(kind, str) and kind in _FEES_OF_ITEMS and action in _PAID_ACTIONS
    )


def _kind_and_action(item: Mapping[str, Any]) -> tuple[object, object]:
    """Returns the type of an item, and that of its action, also in LangChain's own form (v1)."""
    kind, action = item.get("type"), item.get("action")
    if kind == "server_tool_call":
        kind, action = f"{item.get('name')}_call", item.get("args")
    return kind, (as_mapping(action) or {}).get("type")


def usage_of(billing: Billing) -> Usage | None:
    """Returns the billed usage, None if the answer has none that can be trusted."""
    found = [usage for block in billing.blocks if (usage := usage_in(block)) is not None]
    if not found:
        return None
    # Older integrations put only the sums on the message; the provider's block has the details.
    sums = (found[0].prompt, found[0].completion)
    matching = (usage for usage in found if (usage.prompt, usage.completion) == sums)
    return next((usage for usage in matching if usage.has_parts), found[0])


def usage_is_with_another_call(billing: Billing) -> bool:
    """Whether langchain-core has put the usage of this call's batch on the batch's first call."""
    output = as_mapping(billing.llm_output)
    return output is not None and output.get("token_usage") == {}


def tier_of(billing: Billing) -> str | None:
    """Returns the service tier that the answer names, None for the standard one."""
    for block in billing.blocks:
        tier = tier_of_details(block) or block.get("service_tier")
        if isinstance(tier, str) and tier and tier not in _STANDARD_TIERS:
            return tier
        if block.get("speed") == "fast":
            return FAST_MODE
    return None


def fees_of(billing: Billing, model: str = "") -> dict[str, int]:
    """Returns the counts of what is paid besides tokens, by the price list's names for it.

    What has no name there is among them too, and so has no price.
    """
    fees: dict[str, int] = {}
    for message in billing.messages:
        for item in message.items:
            fees[_FEES_OF_ITEMS[item]] = fees.get(_FEES_OF_ITEMS[item], 0) + 1
    for block in billing.blocks:
        for path, name in _FEES_OF_USAGE.items():
            if count := count_at(block, path):
                fees[name] = max(count, fees.get(name, 0))  # several blocks may have the same count
        if searches := _grounding_searches(block):
            # Gemini bills each search; its versions 1 and 2 bill all searches of a prompt as one
            # (ai.google.dev/gemini-api/docs/google-search).
            name = next(response_models(billing), model)
            fees.setdefault(_SEARCHES, 1 if _BILLS_PROMPTS.search(name) else searches)
        if block.get("inference_geo") == "us":
            fees[_US_INFERENCE] = 1
    return fees


def searches_of(billing: Billing) -> dict[str, int]:
    """Returns the searches of a provider (Perplexity) that bills them for some models only."""
    counts = (count_at(block, _PERPLEXITY_SEARCHES) for block in billing.blocks)
    return {_SEARCHES: count} if (count := next(filter(None, counts), 0)) else {}


def stated_cost(billing: Billing) -> float | None:
    """Returns the call's cost in US dollars as the provider states it, None if it does not."""
    for block in billing.blocks:
        for path in _COSTS:
            cost = value_at(block, path)
            if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0:
                upstream = value_at(block, _UPSTREAM_COST) if block.get("is_byok") else None
                return cost + (upstream if isinstance(upstream, int | float) else 0)
    return None


def finish_reasons(billing: Billing) -> tuple[str, ...]:
    """Returns the finish reason of each message that has one."""
    return reason_texts(map(finish_reason, billing.metadata))


def reason_texts(reasons: Iterable[str | None]) -> tuple[str, ...]:
    """Returns the reasons; `OTHER` stands for one that is not a short word: it may be any text."""
    return tuple(
        found.group() if (found := _REASON.fullmatch(reason)) else OTHER
        for reason in reasons
        if reason is not None
    )


def finish_reason(metadata: Mapping[str, Any]) -> str | None:
    """Returns the finish reason in a message's metadata, None if they have none."""
    for key in _REASON_KEYS:
        if isinstance(reason := metadata.get(key), str) and reason:
            return reason
    # OpenAI's Responses API. In other APIs, `status` is that of HTTP or of a batch, a number.
    status = metadata.get("status")
    if not isinstance(status, str):
        return None
    details = as_mapping(metadata.get("incomplete_details")) or {}
    return text_of(details.get("reason") or status)


def response_models(billing: Billing) -> Iterator[str]:
    """Yields the models that the answer says it comes from."""
    for metadata in billing.metadata:
        model = metadata.get("model_name") or metadata.get("model")
        if isinstance(model, str) and model:
            yield text_of(model)


def priced_models(answered: Iterable[object], asked_for: str, provider: str) -> tuple[str, ...]:
    """Returns the models whose prices are looked for, the first one first.

    The name in the answer is the more exact one. On Amazon Bedrock it is the id that was asked for:
    only that tells the region, and calls within one region cost more than those that any region
    may serve.
    """
    models = [*answered, asked_for]
    if names_of(provider) == BEDROCK:
        models.insert(0, asked_for)
    return tuple(text for model in dict.fromkeys(models) if (text := label_value(model)))


def _paid_items(message: Any) -> Iterator[str]:
    content: Any = getattr(message, "content", None)
    extra: Any = getattr(message, "additional_kwargs", None) or {}
    for items in (content, extra.get("tool_outputs")):
        yield from paid_items_in(map(_kind_and_action, _mappings(as_sequence(items))))


def _unusable_answer(metadata: object) -> Mapping[str, Any] | None:
    """Returns the answer, as JSON, that the model's integration could not use; None if none came.

    langchain-core keeps the body of the HTTP response to which an exception refers.
    """
    body = as_mapping((as_mapping(metadata) or {}).get("body"))
    return body if body is not None and any(map(body.get, _USAGE_KEYS)) else None


def _blocks(billing: Billing) -> Iterator[Mapping[str, Any]]:
    yield from _mappings(message.usage_metadata for message in billing.messages)
    for outer in (billing.llm_output, *(message.response_metadata for message in billing.messages)):
        if (mapping := as_mapping(outer)) is not None:
            yield from _mappings(map(mapping.get, _USAGE_KEYS))
            yield mapping  # Ollama's counts are among the other metadata


def _mappings(values: Iterable[object]) -> Iterator[Mapping[str, Any]]:
    """Yields those of `values` that are mappings and not empty."""
    return (mapping for value in values if (mapping := as_mapping(value)))


def _grounding_searches(block: Mapping[str, Any]) -> int:
    grounding = as_mapping(block.get("grounding_metadata")) or {}
    queries = as_sequence(grounding.get("web_search_queries"))
    return len({query for query in queries if query and isinstance(query, str)})
