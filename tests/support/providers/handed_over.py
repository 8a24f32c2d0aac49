"""What an integration hands over to callbacks, seen by a handler that is not otel-coach."""

from __future__ import annotations

import json
import time
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler


class HandedOver(BaseCallbackHandler):
    """Collects all chunks and results."""

    run_inline = True

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.chunks: list[dict[str, Any]] = []
        self.ends: list[dict[str, Any]] = []
        self.first_tokens: list[float] = []
        """For each streamed call, when its first chunk with content came, by `perf_counter`."""

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self._started("chat", serialized, kwargs)

    def on_llm_start(self, serialized: Any, prompts: Any, **kwargs: Any) -> None:
        self._started("text", serialized, kwargs)

    def _started(self, kind: str, serialized: Any, kwargs: dict[str, Any]) -> None:
        self._is_waiting = True
        metadata = kwargs.get("metadata") or {}
        self.starts.append(
            {
                "kind": kind,
                "serialized": {key: (serialized or {}).get(key) for key in ("kwargs", "repr")},
                "metadata": {
                    key: value for key, value in metadata.items() if key.startswith("ls_")
                },
                "invocation_params": kwargs.get("invocation_params"),
            }
        )

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
        handed = {"token": token, **_generation(chunk)}
        self.chunks.append(handed)
        if self._is_waiting and _has_content(handed):
            self._is_waiting = False
            self.first_tokens.append(time.perf_counter())

    def on_llm_end(self, response: Any, **_: Any) -> None:
        generations = [_generation(one) for row in response.generations for one in row]
        self.ends.append({"generations": generations, "llm_output": response.llm_output})

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.ends.append({"error": repr(error), "response": repr(kwargs.get("response"))})

    def has(self, value: float | str) -> bool:
        """Whether this value occurs in what was handed over."""
        return _occurs(value, [self.chunks, self.ends])

    def has_key(self, name: str) -> bool:
        """Whether a mapping in what was handed over has this key, with a value."""
        return _key_occurs(name, [self.chunks, self.ends])

    def written(self) -> str:
        """All of it as JSON, for reports."""
        parts = {"starts": self.starts, "chunks": self.chunks, "ends": self.ends}
        return json.dumps(parts, indent=1, default=repr)


def _generation(one: Any) -> dict[str, Any]:
    if one is None:
        return {}
    found: dict[str, Any] = {"generation_info": getattr(one, "generation_info", None)}
    message = getattr(one, "message", None)
    if message is None:
        return {**found, "text": getattr(one, "text", None)}
    return {
        **found,
        "content": message.content,
        "additional_kwargs": message.additional_kwargs,
        "response_metadata": message.response_metadata,
        "usage_metadata": getattr(message, "usage_metadata", None),
        "tool_call_chunks": getattr(message, "tool_call_chunks", None),
    }


def _has_content(chunk: dict[str, Any]) -> bool:
    """Whether a chunk has text, a tool call's delta or reasoning, by the form of each package."""
    content = chunk.get("content")
    texts = [chunk["token"], *(content if isinstance(content, list) else [content])]
    extra = chunk.get("additional_kwargs") or {}
    return bool(
        chunk.get("tool_call_chunks")
        or extra.get("reasoning_content")
        or any(map(_has_text, texts))
    )


def _has_text(block: Any) -> bool:
    if not isinstance(block, dict):
        return isinstance(block, str) and bool(block)
    if block.get("type") in {"tool_use", "function_call", "tool_call_chunk"}:
        return True
    parts = block.get("summary") or [block]
    keys = ("text", "thinking", "reasoning", "reasoning_content")
    return any(bool(part.get(key)) for part in parts for key in keys if isinstance(part, dict))


def _occurs(value: float | str, where: Any) -> bool:
    if isinstance(where, dict):
        return any(_occurs(value, one) for one in where.values())
    if isinstance(where, list | tuple):
        return any(_occurs(value, one) for one in where)
    if hasattr(where, "model_dump"):
        return _occurs(value, where.model_dump())
    return type(where) is not bool and where == value


def _key_occurs(name: str, where: Any) -> bool:
    if isinstance(where, dict):
        return bool(where.get(name)) or any(_key_occurs(name, one) for one in where.values())
    return isinstance(where, list | tuple) and any(_key_occurs(name, one) for one in where)
