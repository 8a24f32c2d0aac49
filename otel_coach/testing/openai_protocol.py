"""OpenAI's Chat Completions and Responses: the bodies of answers, and events of streams."""

from __future__ import annotations

import json
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from otel_coach.testing.script import ToolCall, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_coach.testing.script import Call

_Json = dict[str, Any]


class OpenAIApi(Protocol):
    """One of OpenAI's APIs."""

    def messages(self, asked: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Returns what a request's body asks the model."""
        ...

    def whole(self, call: Call, answer: str | ToolCall) -> _Json:
        """Returns the body of an answer that is not streamed."""
        ...

    def events(
        self, call: Call, answer: str | ToolCall, asked: Mapping[str, Any]
    ) -> Iterator[tuple[_Json, bool]]:
        """Yields each event of a stream, and whether it has a piece of the answer."""
        ...

    ends_with: bytes
    """What follows the last event of a stream."""


class Chat:
    """Chat Completions: https://platform.openai.com/docs/api-reference/chat."""

    ends_with = b"data: [DONE]\n\n"

    def messages(self, asked: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Returns the messages as they are."""
        return tuple(asked["messages"])

    def whole(self, call: Call, answer: str | ToolCall) -> _Json:
        """Returns one choice and the usage."""
        choice = {"index": 0, "message": self._message(answer), "finish_reason": _reason(answer)}
        usage = {"usage": self._usage(call)}
        return self._head(call, "chat.completion") | {"choices": [choice]} | usage

    def events(
        self, call: Call, answer: str | ToolCall, asked: Mapping[str, Any]
    ) -> Iterator[tuple[_Json, bool]]:
        """Yields the changes, the finish reason and, if it was asked for, the usage."""
        head = self._head(call, "chat.completion.chunk")
        for place, delta in enumerate(self._deltas(answer)):
            choice: _Json = {"index": 0, "delta": delta, "finish_reason": None}
            yield head | {"choices": [choice]}, place > 0
        last: _Json = {"index": 0, "delta": {}, "finish_reason": _reason(answer)}
        yield head | {"choices": [last]}, False
        if (asked.get("stream_options") or {}).get("include_usage"):
            yield head | {"choices": [], "usage": self._usage(call)}, False

    def _deltas(self, answer: str | ToolCall) -> Iterator[_Json]:
        """Yields the changes of a stream: first the role, or the call without its arguments."""
        if isinstance(answer, str):
            yield {"role": "assistant", "content": ""}
            yield from ({"content": piece} for piece in pieces(answer))
            return
        opening = self._message(answer)
        opening["tool_calls"][0]["function"]["arguments"] = ""
        opening["tool_calls"][0]["index"] = 0
        yield opening
        for piece in pieces(answer):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}

    @staticmethod
    def _message(answer: str | ToolCall) -> _Json:
        if isinstance(answer, str):
            return {"role": "assistant", "content": answer}
        function = {"name": answer.name, "arguments": json.dumps(dict(answer.arguments))}
        call = {"id": f"call_{uuid4().hex}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    @staticmethod
    def _head(call: Call, kind: str) -> _Json:
        created = int(time.time())
        head = {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": created}
        return head | {"model": call.model}

    @staticmethod
    def _usage(call: Call) -> dict[str, int]:
        return {
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
            "total_tokens": call.prompt_tokens + call.completion_tokens,
        }


class Responses:
    """Responses: https://platform.openai.com/docs/api-reference/responses."""

    ends_with = b""

    def messages(self, asked: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Returns the instructions, as a system message, and the items of the input."""
        found: list[Mapping[str, Any]] = []
        if instructions := asked.get("instructions"):
            found.append({"role": "system", "content": instructions})
        given: str | list[Mapping[str, Any]] = asked.get("input") or []
        if isinstance(given, str):
            return (*found, {"role": "user", "content": given})
        return (*found, *given)

    def whole(self, call: Call, answer: str | ToolCall) -> _Json:
        """Returns the response with one item and the usage."""
        return self._completed(self._opened(call), call, self._item(answer))

    def events(
        self, call: Call, answer: str | ToolCall, asked: Mapping[str, Any]
    ) -> Iterator[tuple[_Json, bool]]:
        """Yields the numbered events; the last one has the usage."""
        del asked  # here the usage is always sent
        numbers = count()

        def event(name: str, /, *, has_piece: bool = False, **more: Any) -> tuple[_Json, bool]:
            head = {"type": f"response.{name}", "sequence_number": next(numbers)}
            return head | more, has_piece

        opened, item = self._opened(call), self._item(answer)
        yield event("created", response=opened)
        yield event("in_progress", response=opened)
        emptied = item | {"status": "in_progress"}
        emptied |= {"content": []} if isinstance(answer, str) else {"arguments": ""}
        yield event("output_item.added", output_index=0, item=emptied)
        place: _Json = {"item_id": item["id"], "output_index": 0}
        if isinstance(answer, str):
            place |= {"content_index": 0}
            (part,) = item["content"]
            yield event("content_part.added", **place, part=part | {"text": ""})
            for piece in pieces(answer):
                yield event("output_text.delta", has_piece=True, **place, delta=piece, logprobs=[])
            yield event("output_text.done", **place, text=answer, logprobs=[])
            yield event("content_part.done", **place, part=part)
        else:
            name = "function_call_arguments"
            for piece in pieces(answer):
                yield event(f"{name}.delta", has_piece=True, **place, delta=piece)
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield event(f"{name}.done", **place, **told)
        yield event("output_item.done", output_index=0, item=item)
        yield event("completed", response=self._completed(opened, call, item))

    @staticmethod
    def _opened(call: Call) -> _Json:
        return {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": call.model,
            "output": [],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": None,
        }

    @staticmethod
    def _completed(opened: _Json, call: Call, item: _Json) -> _Json:
        usage = {
            "input_tokens": call.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": call.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": call.prompt_tokens + call.completion_tokens,
        }
        return opened | {"status": "completed", "output": [item], "usage": usage}

    @staticmethod
    def _item(answer: str | ToolCall) -> _Json:
        if isinstance(answer, ToolCall):
            return {
                "id": f"fc_{uuid4().hex}",
                "type": "function_call",
                "status": "completed",
                "call_id": f"call_{uuid4().hex}",
                "name": answer.name,
                "arguments": json.dumps(dict(answer.arguments)),
            }
        text = {"type": "output_text", "text": answer, "annotations": [], "logprobs": []}
        return {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [text],
        }


def _reason(answer: str | ToolCall) -> str:
    return "tool_calls" if isinstance(answer, ToolCall) else "stop"
