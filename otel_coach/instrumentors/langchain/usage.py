"""Reads `Usage` from a provider's usage block, in any shape in which LangChain passes it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

from otel_coach.pricing.price_list import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MAX_TOKENS: Final = 10**12
"""More than any call can bill; a larger count is invalid."""


class BilledMessage(NamedTuple):
    """The data of one message that its call's usage is read from."""

    usage_metadata: object
    response_metadata: object


class Billing(NamedTuple):
    """The data of an LLMResult that usage is read from, without its content."""

    messages: tuple[BilledMessage, ...]
    llm_output: object


def billing_of(response: object) -> Billing:
    """Returns the part of `response` from which usage, models and finish reasons are read."""
    messages = [
        BilledMessage(
            getattr(message, "usage_metadata", None), getattr(message, "response_metadata", None)
        )
        for message in messages_of(response)
    ]
    return Billing(tuple(messages), getattr(response, "llm_output", None))


def usage_of(response: Any) -> Usage | None:
    """Returns the billed usage, None if the response has none that can be trusted."""
    found = [usage for block in _blocks(response) if (usage := _read(block)) is not None]
    if not found:
        return None
    # Older integrations put only the sums on the message; the provider's block has the details.
    sums = (found[0].prompt, found[0].completion)
    matching = (usage for usage in found if (usage.prompt, usage.completion) == sums)
    return next((usage for usage in matching if usage.has_parts), found[0])


def usage_of_chunks(blocks: Iterable[object]) -> Usage | None:
    """Returns the sum of the usage in the chunks of a stream, None if none can be trusted."""
    total: Usage | None = None
    for block in blocks:
        usage = _read(mapping) if (mapping := _mapping(block)) is not None else None
        if usage is not None:
            total = usage if total is None else total + usage
    return total


def is_from_cache(response: Any, run_id: object) -> bool:
    """Returns whether LangChain's own cache answered the run, so that there was no call.

    langchain-core marks such a message with a total cost of 0 in its usage. In older versions, the
    message has the id of the run that it originally answered.
    """
    if _core_marks_cached():
        return any(
            (_mapping(getattr(message, "usage_metadata", None)) or {}).get("total_cost") == 0
            for message in messages_of(response)
        )
    ids = (str(getattr(message, "id", None)) for message in messages_of(response))
    return any(one_id.startswith("run-") and str(run_id) not in one_id for one_id in ids)


@cache
def _core_marks_cached() -> bool:
    from langchain_core.language_models.chat_models import BaseChatModel  # noqa: PLC0415 - not while LangChain loads

    return hasattr(BaseChatModel, "_convert_cached_generations")


def messages_of(response: Any) -> Iterator[Any]:
    """Yields the messages of an LLMResult, or of the `Billing` made from one."""
    if isinstance(response, Billing):
        yield from response.messages
        return
    for generation in generations_of(response):
        message = getattr(generation, "message", None)
        if message is not None:
            yield message


def generations_of(response: object) -> Iterator[object]:
    """Yields the generations of an LLMResult, for all its prompts."""
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
            yield mapping  # Ollama's counts are among the other metadata


def _found(block: object) -> Iterator[Mapping[str, Any]]:
    if mapping := _mapping(block):
        yield mapping


def _mapping(value: object) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


@dataclass(frozen=True)
class _Shape:
    """The paths in a usage block, by count. A count is the sum over its paths; missing ones are 0.

    The first path of `prompt` and of `completion` must exist.
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
    # langchain-anthropic sets the first to 0 if it knows the other two.
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
"""OpenAI's Chat Completions API, and the APIs that are compatible with it."""

_ANTHROPIC: Final = _Shape(
    # input_tokens excludes the tokens that were read from the cache or written to it.
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
"""The last message of an Ollama response."""


def _shape_of(block: Mapping[str, Any]) -> _Shape | None:
    """Returns the shape of `block`, recognised by its keys."""
    if "input_tokens" in block:
        if "cache_read_input_tokens" in block or "cache_creation_input_tokens" in block:
            return _ANTHROPIC
        return _OPENAI_RESPONSES if "input_tokens_details" in block else _LANGCHAIN
    others = (_OPENAI_CHAT, _GEMINI, _BEDROCK, _OLLAMA)
    return next((shape for shape in others if shape.prompt[0] in block), None)


def _read(block: Mapping[str, Any]) -> Usage | None:
    """Returns the usage in `block`, None if its shape is unknown or its counts disagree."""
    shape = _shape_of(block)
    return None if shape is None else shape.read(block)


def _at(block: Mapping[str, Any], path: str) -> int | None:
    """Returns the count at `path`, None if there is none."""
    value: Any = block
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if _is_count(value) else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS
