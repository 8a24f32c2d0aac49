"""Anthropic's Messages API for the local provider, with the same directives and the same ledger.

`with anthropic_provider() as provider` serves OpenAI's protocols and this one on a loopback port.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.paths import COACHING

sys.path.insert(0, str(COACHING))  # an application, not a package: its files import each other

from provider import Provider

if TYPE_CHECKING:
    from ledger import Entry
    from script import Answer

Json = dict[str, Any]

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class Messages:
    """The Messages API; a request's `metadata.user_id` is its end user."""

    last_event: ClassVar[str | None] = None
    garbage: ClassVar[str] = 'event: content_block_delta\ndata: {"type": "cont\n\n'
    streams_usage = True

    def __init__(self, request: Json) -> None:
        self.messages: list[Json] = [*_system(request), *map(_as_chat, request["messages"])]
        self.user: str | None = (request.get("metadata") or {}).get("user_id")

    def whole(self, entry: Entry, answer: Answer, *, usage: bool) -> Json:
        """Return the answer to a request without a stream."""
        block = _block(entry, answer.tool)
        text = "".join(answer.pieces)
        said = {"text": text} if answer.tool is None else {"input": json.loads(text or "{}")}
        message = _message(entry, _stop_reason(answer)) | {"content": [block | said]}
        return message | {"usage": _usage(entry)} if usage else message

    def opening(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        """Return the events before the first piece; the answer's tokens are not known yet."""
        message = _message(entry, None) | {"content": []}
        if usage:
            message["usage"] = _usage(entry) | {"output_tokens": 1}
        block = _block(entry, answer.tool)
        return [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "ping"},
        ]

    def piece(self, entry: Entry, answer: Answer, piece: str) -> Json:
        """Return the event that has one piece of the answer."""
        delta = {"type": "text_delta", "text": piece}
        if answer.tool is not None:
            delta = {"type": "input_json_delta", "partial_json": piece}
        return {"type": "content_block_delta", "index": 0, "delta": delta}

    def closing(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        """Return the events after the last piece."""
        delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
        last = {"type": "message_delta", "delta": delta}
        if usage:
            last["usage"] = {"output_tokens": entry.completion_tokens}
        return [{"type": "content_block_stop", "index": 0}, last, {"type": "message_stop"}]

    @staticmethod
    def frame(event: Json) -> str:
        """Return a server-sent event with that data."""
        return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"

    @staticmethod
    def error(status_code: int) -> Json:
        """Return the body of an answer with that status."""
        kind = _ERRORS.get(status_code, "api_error")
        return {"type": "error", "error": {"type": kind, "message": "It failed."}}


def anthropic_provider() -> Provider:
    """Return a provider that also speaks Anthropic's protocol."""
    return Provider(dialects={"/v1/messages": Messages})


def anthropic_url(provider: Provider) -> str:
    """Return the address for Anthropic's clients: a name of its own, to have prices of its own."""
    return provider.url.replace("127.0.0.1", "localhost")


def _system(request: Json) -> list[Json]:
    system = request.get("system")
    return [{"role": "system", "content": system}] if system else []


def _as_chat(message: Json) -> Json:
    content = message["content"]
    if isinstance(content, list):
        results = [block for block in content if block.get("type") == "tool_result"]
        if results:
            return {"role": "tool", "content": str(results[0].get("content", ""))}
        content = [block for block in content if block.get("type") == "text"]
    return {"role": message["role"], "content": content}


def _message(entry: Entry, stop_reason: str | None) -> Json:
    return {
        "id": entry.id,
        "type": "message",
        "role": "assistant",
        "model": entry.model,
        "stop_reason": stop_reason,
        "stop_sequence": None,
    }


def _block(entry: Entry, tool: str | None) -> Json:
    if tool is None:
        return {"type": "text", "text": ""}
    return {"type": "tool_use", "id": f"call-{entry.id}", "name": tool, "input": {}}


def _stop_reason(answer: Answer) -> str:
    return "tool_use" if answer.tool else "end_turn"


def _usage(entry: Entry) -> Json:
    return {
        "input_tokens": entry.prompt_tokens - entry.cached_tokens,
        "cache_read_input_tokens": entry.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": entry.completion_tokens,
    }
