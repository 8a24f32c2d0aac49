"""One LLM call that LangChain makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.core.event_loop import current_task
from otel_coach.core.plain import text_of
from otel_coach.instrumentors.genai.billing import finish_reason
from otel_coach.instrumentors.genai.model_call import ModelCall
from otel_coach.instrumentors.genai.usage_blocks import as_mapping, as_sequence
from otel_coach.instrumentors.langchain.model_frames import is_inside_model
from otel_coach.pricing.provider_names import BEDROCK, names_of

if TYPE_CHECKING:
    from otel_coach.instrumentors.genai.runs import Run

_CONTENT_KEYS: Final = (
    *("text", "reasoning", "thinking", "reasoning_content", "summary", "refusal"),
    *("partial_json", "arguments", "args"),
)
"""Where a block of content has text, reasoning or the arguments of a tool call."""
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Types of blocks, and keys, of reasoning."""
_TOOL_BLOCKS: Final = frozenset({"function_call", "server_tool_use", "tool_call", "tool_use"})
_ADDRESS: Final = re.compile(r"\w*(?:base|url|endpoint|host)")
_ADDRESS_IN_TEXT: Final = re.compile(rf"\b{_ADDRESS.pattern}='(https?://[^'\s]+)'")
_MODEL_IN_TEXT: Final = re.compile(r"\b(?:model_id|repo_id|model_name|model)='([^'\s]+)'")
_ANTHROPIC_URL: Final = "anthropic_api_url"
_MAX_TEXT: Final = 10_000


class LangChainCall(ModelCall):
    """A run of LangChain that is one call of a model."""

    __slots__ = ("_serialized", "_started_in")

    def __init__(
        self,
        parent: Run | None,
        serialized: object,
        metadata: Mapping[str, Any],
        parameters: Mapping[str, Any],
    ) -> None:
        model = (
            metadata.get("ls_model_name")
            or parameters.get("model")
            or parameters.get("model_name")
            or _serialized_model(serialized)
        )
        # A text model's `generate` gives no metadata, but `_type`: openai, or openai-chat.
        kind = text_of(parameters.get("_type") or "").partition("-")[0]
        super().__init__(parent, model, metadata.get("ls_provider") or kind or None)
        self._serialized = serialized
        self._started_in = _thread_and_task()
        """The thread and the task of the code that waits for the call, or takes its chunks."""

    @property
    def executes_current_code(self) -> bool:
        """Whether the current code may belong to the model.

        The code around the call does not: it goes on between two chunks, and after a call that it
        has left or cancelled, which LangChain reports late or never. In another thread or task, the
        code is taken for the model's.
        """
        if self.ended:
            return False
        return _thread_and_task() != self._started_in or is_inside_model()

    def chunk_came(self, token: object, chunk: object) -> None:
        """Notes a chunk; one without content, tool call or reasoning does not count as a token."""
        self.was_streamed = True
        message: Any = getattr(chunk, "message", None)
        if message is not None and (usage := getattr(message, "usage_metadata", None)):
            if self.chunk_usages is None:
                self.chunk_usages = []
            self.chunk_usages.append(usage)
        if (token if type(token) is str else _has_content(token)) or _has_more(message):
            # `token_came`, inlined: the call takes 2 % of a chunk's time in LangChain's patches.
            self.last_token = now = perf_counter()
            if self.first_token is None:
                self.first_token = now
                self.begins_with_reasoning = _is_reasoning(token, message)
        metadata: Any = getattr(message or chunk, "response_metadata", None) or getattr(
            chunk, "generation_info", None
        )
        # Most chunks have only the provider's name, if anything.
        if metadata and (len(metadata) > 1 or "model_provider" not in metadata):
            self.finish_reason = finish_reason(metadata) or self.finish_reason

    def asked_url(self) -> str | None:
        """Returns the address that the model's integration was given, None if it is not known."""
        return super().asked_url() or _serialized_url(self._serialized, self.provider)

    def let_go(self) -> None:
        """Drops the contexts, and LangChain's description of the model."""
        super().let_go()
        self._serialized = None


def _thread_and_task() -> tuple[int, int]:
    return get_ident(), id(current_task())


def _serialized_model(serialized: object) -> object:
    kwargs, text = _serialized_parts(serialized)
    if model := kwargs.get("model_name") or kwargs.get("model") or kwargs.get("model_id"):
        return model
    found = _MODEL_IN_TEXT.search(text)
    return found and found.group(1)


def _serialized_url(serialized: object, provider: str | None) -> str | None:
    kwargs, text = _serialized_parts(serialized)
    is_bedrock = names_of(provider or "").listed == BEDROCK.listed
    for name, value in kwargs.items():
        if is_bedrock and name == _ANTHROPIC_URL:
            continue  # inherited from ChatAnthropic, and never asked
        if isinstance(value, str) and value.startswith("http") and _ADDRESS.fullmatch(name):
            return value
    found = _ADDRESS_IN_TEXT.search(text)
    return found and found.group(1)


def _serialized_parts(serialized: object) -> tuple[Mapping[str, Any], str]:
    """Returns the arguments of a serialized model, and its text if it cannot be serialized."""
    if not isinstance(serialized, Mapping):
        return {}, ""
    parts = cast("Mapping[str, Any]", serialized)
    kwargs, text = parts.get("kwargs"), parts.get("repr")
    return (
        cast("Mapping[str, Any]", kwargs) if isinstance(kwargs, Mapping) else {},
        text[:_MAX_TEXT] if isinstance(text, str) else "",
    )


def _has_more(message: Any) -> bool:
    """Returns whether a chunk without text has a tool call or reasoning."""
    if getattr(message, "tool_call_chunks", None):
        return True
    extra: Any = getattr(message, "additional_kwargs", None)
    return bool(extra) and (
        bool(extra.get("function_call"))
        or _has_content(extra.get("reasoning_content"))
        or _has_content(extra.get("reasoning"))
    )


def _is_reasoning(token: object, message: Any) -> bool:
    """Returns whether a chunk with content has reasoning, and no text before it."""
    extra: Any = getattr(message, "additional_kwargs", None) or {}
    first = as_mapping(next(iter(as_sequence(token)), None)) or {}
    return first.get("type") in _REASONING or (
        not token and any(_has_content(extra.get(key)) for key in _REASONING)
    )


def _has_content(value: object) -> bool:
    """Returns whether a text, a block of content or a list of them has anything to read."""
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, list):
        return any(_has_content(item) for item in cast("list[object]", value))
    if not isinstance(value, Mapping):
        return False
    block = cast("Mapping[str, object]", value)
    return block.get("type") in _TOOL_BLOCKS or any(
        _has_content(block.get(key)) for key in _CONTENT_KEYS
    )
