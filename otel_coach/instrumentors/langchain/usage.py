"""From a provider's usage block, in whichever shape LangChain hands it over, to `Usage`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

from otel_coach.pricing import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_TOKENS: Final = 10**12
"""More than any call can bill; a larger figure is garbage."""


class BilledMessage(NamedTuple):
    """What one message says of its call."""

    usage_metadata: object
    response_metadata: object


class Billing(NamedTuple):
    """What an LLMResult says of its call, without all that it holds beside."""

    messages: tuple[BilledMessage, ...]
    llm_output: object


def billing_of(response: object) -> Billing:
    """What `usage_of` and others need of `response`."""
    messages = [
        BilledMessage(getattr(one, "usage_metadata", None), getattr(one, "response_metadata", None))
        for one in messages_of(response)
    ]
    return Billing(tuple(messages), getattr(response, "llm_output", None))


def usage_of(response: Any) -> Usage | None:
    """What the call billed, None if the response does not say so in a way that can be trusted."""
    found = [usage for block in _blocks(response) if (usage := _read(block)) is not None]
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
        usage = _read(mapping) if (mapping := _mapping(block)) is not None else None
        if usage is not None:
            total = usage if total is None else total + usage
    return total


def is_from_cache(response: Any, run_id: object) -> bool:
    """Whether LangChain's own cache gave the answer to that run, so that there was no call.

    langchain-core marks such a message with a total cost of 0 in its usage. Before it did, the
    message still carries the id of the run that it was the answer to at first.
    """
    if _core_marks_cached():
        return any(
            (_mapping(getattr(message, "usage_metadata", None)) or {}).get("total_cost") == 0
            for message in messages_of(response)
        )
    ids = (str(getattr(message, "id", None)) for message in messages_of(response))
    return any(one.startswith("run-") and str(run_id) not in one for one in ids)


@cache
def _core_marks_cached() -> bool:
    from langchain_core.language_models.chat_models import (  # noqa: PLC0415 - not while it loads
        BaseChatModel,
    )

    return hasattr(BaseChatModel, "_convert_cached_generations")


def messages_of(response: Any) -> Iterator[Any]:
    """The messages of an LLMResult, or of what is kept of one."""
    if isinstance(response, Billing):
        yield from response.messages
        return
    for generation in generations_of(response):
        message = getattr(generation, "message", None)
        if message is not None:
            yield message


def generations_of(response: object) -> Iterator[object]:
    """What an LLMResult holds, of all its batches."""
    for generations in _listed(getattr(response, "generations", None)):
        yield from _listed(generations)


def _listed(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()


def _blocks(response: Any) -> Iterator[Mapping[str, Any]]:
    metadata: list[object] = []
    for message in messages_of(response):
        yield from _found(getattr(message, "usage_metadata", None))
        metadata.append(getattr(message, "response_metadata", None))
    for outer in (getattr(response, "llm_output", None), *metadata):
        if (mapping := _mapping(outer)) is not None:
            for key in ("token_usage", "usage", "usage_metadata"):
                yield from _found(mapping.get(key))
            yield mapping  # Ollama's counts lie among the rest


def _found(block: object) -> Iterator[Mapping[str, Any]]:
    if mapping := _mapping(block):
        yield mapping


def _mapping(value: object) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


@dataclass(frozen=True)
class _Shape:
    """Where a usage block keeps its counts: sums of paths, those that are absent being 0.

    The first path of `prompt` and of `completion` must be there.
    """

    prompt: tuple[str, ...]
    completion: tuple[str, ...]
    cached: tuple[str, ...] = ()
    cache_write: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    cache_write_1h: tuple[str, ...] = ()
    input_audio: tuple[str, ...] = ()
    output_audio: tuple[str, ...] = ()

    def read(self, block: Mapping[str, Any]) -> Usage | None:
        if _at(block, self.prompt[0]) is None or _at(block, self.completion[0]) is None:
            return None
        sums = (
            sum(_at(block, path) or 0 for path in getattr(self, part.name)) for part in fields(self)
        )
        usage = Usage(*sums)
        return None if usage.contradicts_itself else usage


_LANGCHAIN: Final = _Shape(
    ("input_tokens",),
    ("output_tokens",),
    cached=("input_token_details.cache_read",),
    # langchain-anthropic gives 0 for the first where it knows the two others.
    cache_write=(
        "input_token_details.cache_creation",
        "input_token_details.ephemeral_5m_input_tokens",
        "input_token_details.ephemeral_1h_input_tokens",
    ),
    reasoning=("output_token_details.reasoning",),
    cache_write_1h=("input_token_details.ephemeral_1h_input_tokens",),
    input_audio=("input_token_details.audio",),
    output_audio=("output_token_details.audio",),
)
"""langchain_core.messages.ai.UsageMetadata."""

_OPENAI_RESPONSES: Final = _Shape(
    ("input_tokens",),
    ("output_tokens",),
    cached=("input_tokens_details.cached_tokens",),
    cache_write=("input_tokens_details.cache_write_tokens",),
    reasoning=("output_tokens_details.reasoning_tokens",),
)
"""OpenAI's Responses API."""

_OPENAI_CHAT: Final = _Shape(
    ("prompt_tokens",),
    ("completion_tokens",),
    cached=("prompt_tokens_details.cached_tokens",),
    cache_write=("prompt_tokens_details.cache_write_tokens",),
    reasoning=("completion_tokens_details.reasoning_tokens",),
    input_audio=("prompt_tokens_details.audio_tokens",),
    output_audio=("completion_tokens_details.audio_tokens",),
)
"""OpenAI's chat completions, and all who speak their protocol."""

_ANTHROPIC: Final = _Shape(
    # What was read from the cache or written to it is not among the input tokens.
    ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    ("output_tokens",),
    cached=("cache_read_input_tokens",),
    cache_write=("cache_creation_input_tokens",),
    cache_write_1h=("cache_creation.ephemeral_1h_input_tokens",),
)
"""Anthropic's Messages API."""

_BEDROCK: Final = _Shape(
    ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
    ("outputTokens",),
    cached=("cacheReadInputTokens",),
    cache_write=("cacheWriteInputTokens",),
)
"""Amazon Bedrock's Converse API."""

_GEMINI: Final = _Shape(
    ("prompt_token_count", "tool_use_prompt_token_count"),
    ("candidates_token_count", "thoughts_token_count"),
    cached=("cached_content_token_count",),
    reasoning=("thoughts_token_count",),
)
"""Gemini's UsageMetadata, as Google's Python libraries spell it."""

_OLLAMA: Final = _Shape(("prompt_eval_count",), ("eval_count",))
"""Ollama's final answer."""


def _shape_of(block: Mapping[str, Any]) -> _Shape | None:
    """The shape that the keys of `block` tell."""
    if "input_tokens" in block:
        if "cache_read_input_tokens" in block or "cache_creation_input_tokens" in block:
            return _ANTHROPIC
        return _OPENAI_RESPONSES if "input_tokens_details" in block else _LANGCHAIN
    others = (_OPENAI_CHAT, _GEMINI, _BEDROCK, _OLLAMA)
    return next((shape for shape in others if shape.prompt[0] in block), None)


def _read(block: Mapping[str, Any]) -> Usage | None:
    """The usage of a block, None if it is of no known shape or cannot be trusted."""
    shape = _shape_of(block)
    return None if shape is None else shape.read(block)


def _at(block: Mapping[str, Any], path: str) -> int | None:
    """The count at `path`, None if there is none."""
    value: Any = block
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if _is_count(value) else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
