"""Reads `Usage` from a provider's usage block, in any shape in which libraries pass it on."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

from otel_coach.core.record import record
from otel_coach.pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_logger = logging.getLogger("otel_coach")

_MAX_TOKENS: Final = 10**12
"""More than any call can bill; a larger count is invalid."""


def usage_in(block: Mapping[str, Any], *, is_part: bool = False) -> Usage | None:
    """Returns the usage in `block`, None if its shape is unknown or its counts disagree.

    0 prompt and 0 completion tokens are what some integrations make up if there is no usage. If
    `is_part`, other blocks have the rest of the call's usage.
    """
    shape = _shape_of(block)
    usage = None if shape is None else shape.read(block, is_part=is_part)
    if usage is not None and shape is _ANTHROPIC:
        usage = reduce(Usage.plus, _compactions(block), usage)
    return usage if usage is not None and (usage.prompt or usage.completion) else None


def _compactions(block: Mapping[str, Any]) -> Iterator[Usage]:
    """Yields the usage of each compaction of the conversation, which the totals leave out.

    (anthropic.types.beta.BetaUsage)
    """
    for part in map(as_mapping, as_sequence(block.get("iterations"))):
        if part is not None and part.get("type") == "compaction":
            usage = _ANTHROPIC.read(part)
            if usage is not None:
                yield usage


def usage_of_chunks(blocks: Iterable[object]) -> Usage | None:
    """Returns the usage in the chunks of a stream, None if none can be trusted.

    Most providers spread it over the chunks. Some repeat, in each chunk, the total until then; if
    more than one chunk has prompt tokens, the last one has the bill.
    """
    mappings = [mapping for block in blocks if (mapping := as_mapping(block)) is not None]
    whole = [usage for one in mappings if (usage := usage_in(one)) is not None]
    if not whole:
        return None
    if len(whole) == 1 or sum(usage.prompt > 0 for usage in whole) > 1:
        return whole[-1]
    # A chunk's total may include tokens that only a later chunk names: so totals are not read.
    parts = [usage for one in mappings if (usage := usage_in(one, is_part=True)) is not None]
    return reduce(Usage.plus, parts) if parts else None


def as_mapping(value: object) -> Mapping[str, Any] | None:
    """Returns `value` if it is a mapping, else None."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def as_sequence(value: object) -> Sequence[Any]:
    """Returns `value` if it is a list or a tuple, else an empty one."""
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()


_LANGCHAIN_DETAILS: Final = ("input_token_details", "output_token_details")
_NESTED: Final = ("token_details", "tokens_details", "cache_creation")
"""The ends of the names of mappings that have the parts of a count."""
_OF_TIER: Final = re.compile(r"([a-z]+)_(?:cache_read|cache_creation|reasoning)")
_LIKE_TEXT: Final = frozenset(
    {
        *{"text", "text_tokens", "image", "image_tokens", "video", "video_tokens"},
        *{"accepted_prediction_tokens", "rejected_prediction_tokens"},
    }
)
"""Parts of the prompt or the completion that are paid like text, as far as it is known."""
_MAX_NAMED_PARTS: Final = 50
_named_parts: Final[set[str]] = set()
"""Parts that are not known, and have been logged."""


@record
class _Shape:
    """The paths in a usage block, by count. A count is the sum over its paths; missing ones are 0.

    Paths that are separated by a bar stand for the same: the first that exists counts. The first
    path of `prompt` and of `completion` must exist.
    """

    prompt: tuple[str, ...]
    completion: tuple[str, ...]
    cached: tuple[str, ...] = ()
    cache_write: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    cache_write_1h: tuple[str, ...] = ()
    input_audio: tuple[str, ...] = ()
    output_audio: tuple[str, ...] = ()
    citation: tuple[str, ...] = ()
    output_image: tuple[str, ...] = ()
    output_text: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()
    """Names of parts that are paid like the whole, or that are the sum of other parts."""
    total: str = ""
    """The path of all tokens together, where some APIs have more than prompt and completion."""

    def read(self, block: Mapping[str, Any], *, is_part: bool = False) -> Usage | None:
        if count_at(block, self.prompt[0]) is None or count_at(block, self.completion[0]) is None:
            return None
        block = _without_tier(block)
        usage = Usage(
            *(sum(_first(block, path) for path in getattr(self, part)) for part in Usage._fields)
        )
        if usage.citation:  # Perplexity counts these and reasoning beside the completion
            more = usage.reasoning + usage.citation
            usage = usage._replace(completion=usage.completion + more)
        if self.total and not is_part:
            usage = _with_rest(usage, count_at(block, self.total) or 0)
        if usage.contradicts_itself:
            return None
        self._name_unknown_parts(block)
        return usage

    def _name_unknown_parts(self, block: Mapping[str, Any]) -> None:
        """Logs, once for each, the parts of a count that this shape does not know."""
        for details, name in _parts_in(block):
            path = f"{details}.{name}"
            if name in self.others or path in self._paths or path in _named_parts:
                continue
            if len(_named_parts) < _MAX_NAMED_PARTS:
                _named_parts.add(path)
                _logger.warning(
                    "otel-coach: the usage of a call has a part that is not known, %s; its tokens "
                    "are priced like others. A newer otel-coach may know it.",
                    path,
                )

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(
            path
            for part in Usage._fields
            for paths in getattr(self, part)
            for path in paths.split("|")
        )


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
    citation=("output_token_details.citation_tokens",),
    output_image=("output_token_details.image",),
    output_text=("output_token_details.text",),
    others=_LIKE_TEXT,
    total="total_tokens",
)
"""langchain_core.messages.ai.UsageMetadata."""

_OPENAI_RESPONSES: Final = _Shape(
    ("input_tokens",),
    ("output_tokens",),
    cached=("input_tokens_details.cached_tokens",),
    cache_write=("input_tokens_details.cache_write_tokens",),
    reasoning=("output_tokens_details.reasoning_tokens",),
    output_image=("output_tokens_details.image_tokens",),
    output_text=("output_tokens_details.text_tokens",),
    others=_LIKE_TEXT,
    total="total_tokens",
)
"""OpenAI's Responses API."""

_OPENAI_CHAT: Final = _Shape(
    ("prompt_tokens",),
    ("completion_tokens",),
    cached=(
        # Together and DeepSeek have a name of their own, and may have the usual one as well.
        "prompt_tokens_details.cached_tokens|cached_tokens|prompt_cache_hit_tokens",
    ),
    cache_write=("prompt_tokens_details.cache_write_tokens",),
    reasoning=("completion_tokens_details.reasoning_tokens",),
    input_audio=("prompt_tokens_details.audio_tokens",),
    output_audio=("completion_tokens_details.audio_tokens",),
    output_image=("completion_tokens_details.image_tokens",),
    output_text=("completion_tokens_details.text_tokens",),
    others=_LIKE_TEXT,
    total="total_tokens",
)
"""OpenAI's Chat Completions API, and the APIs that are compatible with it."""

_ANTHROPIC: Final = _Shape(
    # input_tokens excludes the tokens that were read from the cache or written to it.
    ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    ("output_tokens",),
    cached=("cache_read_input_tokens",),
    cache_write=("cache_creation_input_tokens",),
    reasoning=("output_tokens_details.thinking_tokens",),
    cache_write_1h=("cache_creation.ephemeral_1h_input_tokens",),
    others=frozenset({"ephemeral_5m_input_tokens"}),
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


def tier_of_details(block: Mapping[str, Any]) -> str | None:
    """Returns the service tier in the names of LangChain's details, such as `flex_cache_read`."""
    for details in _LANGCHAIN_DETAILS:
        for name in as_mapping(block.get(details)) or ():
            if (found := _OF_TIER.fullmatch(name)) is not None:
                return found.group(1)
    return None


def tier_of_chunks(blocks: Iterable[object]) -> str | None:
    """Returns the service tier in the usage of a stream's chunks, None if there is none."""
    tiers = (tier_of_details(block) for block in map(as_mapping, blocks) if block is not None)
    return next(filter(None, tiers), None)


def _without_tier(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns `block` with LangChain's details of a service tier under their usual names.

    langchain-openai puts the tier in front of them: `flex_cache_read`. A detail whose name is only
    the tier (`flex`) counts the remaining tokens.
    """
    tier = tier_of_details(block)
    if tier is None:
        return block
    renamed = {
        details: {
            name.removeprefix(f"{tier}_"): count
            for name, count in (as_mapping(block.get(details)) or {}).items()
            if name != tier
        }
        for details in _LANGCHAIN_DETAILS
    }
    return {**block, **renamed}


def _with_rest(usage: Usage, total: int) -> Usage:
    """Returns `usage` with a completion that has all tokens of `total` that are not the prompt's.

    xAI counts reasoning beside the completion, and Gemini's API for OpenAI's clients names it in
    the total only. Cached tokens that an integration left out of the prompt are not added.
    """
    rest = total - usage.prompt - usage.completion
    is_cache = rest == usage.cached + usage.cache_write and rest != usage.reasoning
    if rest <= 0 or not usage.prompt or is_cache:
        return usage
    return usage._replace(completion=usage.completion + rest)


def _parts_in(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the names of the counts in nested mappings, except those of 0."""
    for details, value in block.items():
        if details.endswith(_NESTED) and isinstance(value, Mapping):
            for name, count in cast("Mapping[str, object]", value).items():
                if is_count(count) and count:
                    yield details, name


def _first(block: Mapping[str, Any], paths: str) -> int:
    return next((n for path in paths.split("|") if (n := count_at(block, path)) is not None), 0)


def value_at(block: Mapping[str, Any], path: str) -> object:
    """Returns the value at `path` (`outer_key.inner_key`), None if there is none."""
    value: Any = block
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def count_at(block: Mapping[str, Any], path: str) -> int | None:
    """Returns the count at `path`, None if there is none."""
    value = value_at(block, path)
    if isinstance(value, float) and value.is_integer():  # Cohere's counts are floats
        value = int(value)
    return value if is_count(value) else None


def is_count(value: object) -> TypeGuard[int]:
    """Whether `value` is a number of tokens that a call can bill."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS
