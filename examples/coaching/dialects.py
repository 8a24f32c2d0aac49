"""The protocols that the local provider speaks: what requests and answers look like in each."""

import json
from typing import Any, ClassVar, Protocol

from ledger import Entry
from script import Answer

_ERRORS = {
    400: ("invalid_request_error", None, "The request is malformed."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "unknown_url", "Unknown request URL."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
    500: ("server_error", None, "The server had an error while processing your request."),
}

Json = dict[str, Any]


class Dialect(Protocol):
    """A protocol, for one request."""

    last_event: ClassVar[str | None]
    """Data of the server-sent event that ends a stream."""
    garbage: ClassVar[str]
    """A server-sent event whose data are not JSON."""

    def __init__(self, request: Json) -> None:
        """Read the request; one without what it needs raises LookupError or TypeError."""
        ...

    messages: list[Json]
    """The messages in the form of Chat Completions."""
    user: str | None
    """The end user, if the request names one."""
    streams_usage: bool
    """Whether a stream reports its usage."""

    def whole(self, entry: Entry, answer: Answer, *, usage: bool) -> Json:
        """Return the answer to a request without a stream."""
        ...

    def opening(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        """Return the events before the first piece."""
        ...

    def piece(self, entry: Entry, answer: Answer, piece: str) -> Json:
        """Return the event that has one piece of the answer."""
        ...

    def closing(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        """Return the events after the last piece."""
        ...

    @staticmethod
    def frame(event: Json) -> str:
        """Return a server-sent event with that data."""
        ...

    @staticmethod
    def error(status_code: int) -> Json:
        """Return the body of an answer with that status."""
        ...


class ChatCompletions:
    """OpenAI's Chat Completions API."""

    last_event: ClassVar[str | None] = "[DONE]"
    garbage: ClassVar[str] = 'data: {"id": "chatcmpl-\n\n'

    def __init__(self, request: Json) -> None:
        self.messages: list[Json] = request["messages"]
        self.user: str | None = request.get("user")
        options: Json = request.get("stream_options") or {}
        self.streams_usage = bool(options.get("include_usage"))
        self._nothing_yet: Json = {}

    def whole(self, entry: Entry, answer: Answer, *, usage: bool) -> Json:
        message = _tool_message(entry, answer) if answer.tool else _text_message(answer)
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(answer)}
        found = _envelope(entry, "chat.completion") | {"choices": [choice]}
        return found | {"usage": _usage(entry)} if usage else found

    def opening(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        if usage:
            self._nothing_yet = {"usage": None}
        return [self._chunk(entry, _first_delta(entry, answer))]

    def piece(self, entry: Entry, answer: Answer, piece: str) -> Json:
        return self._chunk(entry, _delta(piece, answer))

    def closing(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        last = self._chunk(entry, {}, _finish_reason(answer))
        return [last, last | {"choices": [], "usage": _usage(entry)}] if usage else [last]

    def _chunk(self, entry: Entry, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        envelope = _envelope(entry, "chat.completion.chunk") | self._nothing_yet
        return envelope | {"choices": [choice]}

    @staticmethod
    def frame(event: Json) -> str:
        return f"data: {json.dumps(event)}\n\n"

    @staticmethod
    def error(status_code: int) -> Json:
        kind, code, message = _ERRORS.get(status_code, _ERRORS[500])
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Responses:
    """OpenAI's Responses API."""

    last_event: ClassVar[str | None] = None
    garbage: ClassVar[str] = 'event: response.output_text.delta\ndata: {"type": "respon\n\n'
    streams_usage = True

    def __init__(self, request: Json) -> None:
        given: Any = request["input"]
        self.messages: list[Json] = (
            [{"role": "user", "content": given}] if isinstance(given, str) else _as_chat(given)
        )
        self.user: str | None = request.get("user")
        self._sequence = 0

    def whole(self, entry: Entry, answer: Answer, *, usage: bool) -> Json:
        return self._response(entry, "completed") | {
            "output": [self._item(entry, answer, "completed")],
            "usage": _usage_of_response(entry) if usage else None,
        }

    def opening(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        del usage
        item = self._item(entry, Answer([], answer.tool), "in_progress")
        events = [
            self._event("created", response=self._response(entry, "in_progress")),
            self._event("output_item.added", output_index=0, item=item),
        ]
        if answer.tool is None:
            part = _text_part("")
            events.append(
                self._event(
                    "content_part.added", item_id=item["id"], output_index=0, content_index=0,
                    part=part,
                )
            )  # fmt: skip
        return events

    def piece(self, entry: Entry, answer: Answer, piece: str) -> Json:
        place = {"item_id": f"item-{entry.id}", "output_index": 0, "delta": piece}
        if answer.tool is not None:
            return self._event("function_call_arguments.delta", **place)
        return self._event("output_text.delta", content_index=0, logprobs=[], **place)

    def closing(self, entry: Entry, answer: Answer, *, usage: bool) -> list[Json]:
        item = self._item(entry, answer, "completed")
        done = self._event("output_item.done", output_index=0, item=item)
        whole = self.whole(entry, answer, usage=usage)
        return [done, self._event("completed", response=whole)]

    def _event(self, name: str, **data: object) -> Json:
        self._sequence += 1
        return {"type": f"response.{name}", "sequence_number": self._sequence} | data

    @staticmethod
    def _response(entry: Entry, status: str) -> Json:
        return {
            "id": entry.id,
            "object": "response",
            "created_at": int(entry.started),
            "model": entry.model,
            "status": status,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }

    @staticmethod
    def _item(entry: Entry, answer: Answer, status: str) -> Json:
        text = "".join(answer.pieces)
        common = {"id": f"item-{entry.id}", "status": status}
        if answer.tool is not None:
            call = {"name": answer.tool, "arguments": text, "call_id": f"call-{entry.id}"}
            return common | {"type": "function_call"} | call
        content = [_text_part(text)] if answer.pieces else []
        return common | {"type": "message", "role": "assistant", "content": content}

    @staticmethod
    def frame(event: Json) -> str:
        return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"

    error = staticmethod(ChatCompletions.error)


def _envelope(entry: Entry, kind: str) -> Json:
    return {
        "id": entry.id,
        "object": kind,
        "created": int(entry.started),
        "model": entry.model,
    }


def _usage(entry: Entry) -> Json:
    return {
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "total_tokens": entry.prompt_tokens + entry.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": entry.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": entry.reasoning_tokens},
    }


def _usage_of_response(entry: Entry) -> Json:
    return {
        "input_tokens": entry.prompt_tokens,
        "output_tokens": entry.completion_tokens,
        "total_tokens": entry.prompt_tokens + entry.completion_tokens,
        "input_tokens_details": {"cached_tokens": entry.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": entry.reasoning_tokens},
    }


def _text_message(answer: Answer) -> Json:
    return {"role": "assistant", "content": "".join(answer.pieces)}


def _tool_message(entry: Entry, answer: Answer) -> Json:
    function = {"name": answer.tool, "arguments": "".join(answer.pieces)}
    call = {"id": f"call-{entry.id}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _first_delta(entry: Entry, answer: Answer) -> Json:
    """Return a stream's first delta, as OpenAI sends it: a role, or a call without arguments."""
    if not answer.tool:
        return {"role": "assistant", "content": ""}
    opening = _tool_message(entry, Answer([], answer.tool))
    return opening | {"tool_calls": [{"index": 0} | opening["tool_calls"][0]]}


def _delta(piece: str, answer: Answer) -> Json:
    if not answer.tool:
        return {"content": piece}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _finish_reason(answer: Answer) -> str:
    return "tool_calls" if answer.tool else "stop"


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _as_chat(items: list[Json]) -> list[Json]:
    """Return the input items of the Responses API as messages."""
    roles = {"function_call_output": "tool", "function_call": "assistant"}
    return [
        {
            "role": roles.get(item.get("type", "message")) or item["role"],
            "content": item.get("output") or item.get("content"),
        }
        for item in items
    ]
