"""From a provider's usage block, in whichever shape LangChain hands it over, to `Usage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from otel_coach.pricing import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MOST_TOKENS = 10**12
"""More than any call can bill; a larger figure is garbage."""


def usage_of(response: Any) -> Usage | None:
    """What the call billed, None if the response does not say so in a way that can be trusted."""
    found = [
        usage
        for block in _blocks(response)
        if (usage := _from_langchain(block) or _from_openai(block)) is not None
    ]
    if not found:
        return None
    # Older integrations put the sums on the message and leave the parts in the provider's block.
    sums = (found[0].prompt, found[0].completion)
    alike = (usage for usage in found if (usage.prompt, usage.completion) == sums)
    return next((usage for usage in alike if usage.has_parts), found[0])


def usage_of_chunks(blocks: Iterable[object]) -> Usage | None:
    """What the chunks of a stream say together; None if none says anything that can be trusted."""
    total: Usage | None = None
    for block in blocks:
        usage = _from_langchain(mapping) if (mapping := _mapping(block)) is not None else None
        if usage is not None:
            total = usage if total is None else total + usage
    return total


def is_from_cache(response: Any) -> bool:
    """Whether LangChain's own cache gave the answer, so that there was no call.

    langchain-core marks such a message with a total cost of 0 in its usage.
    """
    return any(
        (_mapping(getattr(message, "usage_metadata", None)) or {}).get("total_cost") == 0
        for message in messages_of(response)
    )


def messages_of(response: Any) -> Iterator[Any]:
    """The messages of an LLMResult."""
    for generations in getattr(response, "generations", None) or ():
        for generation in generations or ():
            message = getattr(generation, "message", None)
            if message is not None:
                yield message


def _blocks(response: Any) -> Iterator[Mapping[str, Any]]:
    metadata: list[object] = []
    for message in messages_of(response):
        yield from _found(getattr(message, "usage_metadata", None))
        metadata.append(getattr(message, "response_metadata", None))
    for outer in (getattr(response, "llm_output", None), *metadata):
        if (mapping := _mapping(outer)) is not None:
            yield from _found(mapping.get("token_usage"))
            yield from _found(mapping.get("usage"))


def _found(block: object) -> Iterator[Mapping[str, Any]]:
    if mapping := _mapping(block):
        yield mapping


def _mapping(value: object) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def _from_langchain(block: Mapping[str, Any]) -> Usage | None:
    """langchain_core.messages.ai.UsageMetadata: cache and reasoning are parts of the sums."""
    prompt_details = _mapping(block.get("input_token_details")) or {}
    completion_details = _mapping(block.get("output_token_details")) or {}
    return _usage(
        block.get("input_tokens"),
        block.get("output_tokens"),
        prompt_details.get("cache_read"),
        prompt_details.get("cache_creation"),
        completion_details.get("reasoning"),
    )


def _from_openai(block: Mapping[str, Any]) -> Usage | None:
    """The usage object of OpenAI's chat completions, as ChatOpenAI leaves it in llm_output."""
    prompt_details = _mapping(block.get("prompt_tokens_details")) or {}
    completion_details = _mapping(block.get("completion_tokens_details")) or {}
    return _usage(
        block.get("prompt_tokens"),
        block.get("completion_tokens"),
        prompt_details.get("cached_tokens"),
        None,
        completion_details.get("reasoning_tokens"),
    )


def _usage(
    prompt: object, completion: object, cached: object, cache_write: object, reasoning: object
) -> Usage | None:
    if not (_is_count(prompt) and _is_count(completion)):
        return None
    parts = [part if _is_count(part) else 0 for part in (cached, cache_write, reasoning)]
    usage = Usage(cast("int", prompt), cast("int", completion), *cast("list[int]", parts))
    if usage.cached + usage.cache_write > usage.prompt or usage.reasoning > usage.completion:
        return None  # parts larger than their sum: the block contradicts itself
    return usage


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
