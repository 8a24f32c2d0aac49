"""What is read from the answers and the streams of OpenAI's APIs."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.instrumentors.genai.billing import paid_items_in
from otel_coach.instrumentors.genai.direct_call import (
    DirectCall,
    ResponseError,
    fields,
    listed_fields,
    message_from,
    tool_call,
)
from otel_coach.instrumentors.genai.usage_blocks import as_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_REASONING: Final = ("reasoning_content", "reasoning")
"""The fields of those servers that show it; OpenAI itself has none."""
_MORE_THAN_TEXT: Final = (*_REASONING, "tool_calls", "function_call", "refusal", "audio")
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
"""Items of the Responses API: calls of the application's tools, and their results."""
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""Events with the whole response, after which nothing comes."""


class ChatCall(DirectCall):
    """A call of the Chat Completions API, or of one that is compatible with it."""

    __slots__ = ("_choices",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        asked_for = self.parameters.get("n")
        self._choices = asked_for if isinstance(asked_for, int) else 1
        """The number of choices, each of which has a finish reason."""

    def prompt_messages(self) -> Sequence[object]:
        return list(map(_chat_message, listed_fields(self.parameters.get("messages"))))

    def chunk_came(self, chunk: Any) -> None:
        self.was_streamed = True
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self.usage_block = usage
            self.tier = getattr(chunk, "service_tier", None)
        if not self.answered_model:
            self.answered_model = getattr(chunk, "model", None)
        for choice in getattr(chunk, "choices", None) or ():
            delta = getattr(choice, "delta", None)
            if getattr(delta, "content", None) or self.speaks(delta or choice):
                # `token_came`, inlined: the call takes 5 % of the time for a chunk.
                self.last_token = now = perf_counter()
                if self.first_token is None:
                    self.first_token = now
                    self.begins_with_reasoning = self.has_reasoning(delta)
            if reason := getattr(choice, "finish_reason", None):  # some servers send an empty one
                self._choice_ended(reason)
            if self.output is not None:
                self.output.append(choice)

    def _choice_ended(self, reason: object) -> None:
        if len(self.finish_reasons) + 1 >= self._choices:
            self.finished(reason)
        else:
            self.finish_reasons.append(reason)

    @staticmethod
    def speaks(delta: Any) -> bool:
        """Returns whether a delta without text has a tool call, reasoning or sound."""
        return any(getattr(delta, name, None) for name in _MORE_THAN_TEXT)

    @staticmethod
    def has_reasoning(delta: Any) -> bool:
        """Returns whether a delta has reasoning."""
        return any(getattr(delta, name, None) for name in _REASONING)

    def answer_came(self, answer: Any) -> None:
        self.usage_block = getattr(answer, "usage", None)
        self.answered_model = getattr(answer, "model", None)
        self.tier = getattr(answer, "service_tier", None)
        if getattr(answer, "error", None):  # some gateways say so with HTTP status 200
            self.failure = ResponseError()
        choices = as_sequence(getattr(answer, "choices", None))
        for choice in choices:
            if reason := getattr(choice, "finish_reason", None):
                self.finish_reasons.append(reason)
        if self.output is not None:
            self.output += choices

    def answer_messages(self) -> Sequence[object]:
        parts: dict[object, list[Any]] = {}
        for choice in self.output or ():
            said = getattr(choice, "message", None) or getattr(choice, "delta", None)
            parts.setdefault(getattr(choice, "index", 0), []).append(said)
        return [_joined(said) for said in parts.values()]


class CompletionCall(ChatCall):
    """A call of the older Completions API, which has texts instead of messages."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prompt = self.parameters.get("prompt")
        # A list of numbers is one prompt, given as tokens.
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
            self._choices *= len(cast("list[object]", prompt))

    def prompt_messages(self) -> Sequence[object]:
        prompt = self.parameters.get("prompt")
        return [
            message_from("user", text)
            for text in ([prompt] if isinstance(prompt, str) else as_sequence(prompt))
        ]

    @staticmethod
    def speaks(delta: Any) -> bool:
        return bool(getattr(delta, "text", None))

    def answer_messages(self) -> Sequence[object]:
        texts: dict[object, str] = {}
        for choice in self.output or ():
            index = getattr(choice, "index", 0)
            texts[index] = texts.get(index, "") + str(getattr(choice, "text", ""))
        return [message_from("assistant", text) for text in texts.values()]


class ResponsesCall(DirectCall):
    """A call of the Responses API."""

    __slots__ = ()

    def prompt_messages(self) -> Sequence[object]:
        given = self.parameters.get("input")
        instructions = self.parameters.get("instructions")
        system = [message_from("system", instructions)] if instructions else []
        if isinstance(given, str):
            return [*system, message_from("user", given)]
        said = map(_item, listed_fields(given))
        return [*system, *(one for one in said if one.content or one.tool_calls)]

    def chunk_came(self, chunk: Any) -> None:
        self.was_streamed = True
        kind = getattr(chunk, "type", None) or ""
        if kind.endswith(".delta"):
            if delta := getattr(chunk, "delta", None):
                self.token_came(is_reasoning="reasoning" in kind)
                if self.output is not None and kind == "response.output_text.delta":
                    self.output.append(delta)
        elif kind in _ENDS:
            if self.output is not None:
                self.output.clear()  # the response has all of it
            self.answer_came(getattr(chunk, "response", None))
        elif kind == "error":
            self.failure = ResponseError()
        elif not self.answered_model:
            response = getattr(chunk, "response", None)
            self.answered_model = getattr(response, "model", None)

    def answer_came(self, answer: Any) -> None:
        self.usage_block = getattr(answer, "usage", None)
        self.answered_model = getattr(answer, "model", None)
        self.tier = getattr(answer, "service_tier", None)
        said = as_sequence(getattr(answer, "output", None))
        self.paid_items += paid_items_in(
            (getattr(item, "type", None), getattr(getattr(item, "action", None), "type", None))
            for item in said
        )
        status = getattr(answer, "status", None)
        reason = getattr(getattr(answer, "incomplete_details", None), "reason", None) or status
        if reason:
            self.finished(reason)
        if status == "failed" or getattr(answer, "error", None):
            self.failure = ResponseError()
        if self.output is not None:
            self.output += said

    def answer_messages(self) -> Sequence[object]:
        said = self.output or ()
        if text := "".join(part for part in said if isinstance(part, str)):
            return [message_from("assistant", text)]  # a stream that was cut
        content: list[Mapping[str, Any]] = []
        calls: list[object] = []
        for item in listed_fields(said):
            if item.get("type") in _CALLS:
                calls.append(_tool_call(item))
            elif item.get("type") == "reasoning":
                content += [{"type": "reasoning", **part} for part in _reasoning(item)]
            else:
                content += listed_fields(item.get("content"))
        return [message_from("assistant", content, calls)]


def _reasoning(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("content", "summary"):
        for part in listed_fields(item.get(name)):
            yield {"text": part.get("text")}


def _chat_message(message: Mapping[str, Any]) -> object:
    calls = [_chat_tool_call(call) for call in listed_fields(message.get("tool_calls"))]
    return message_from(
        message.get("role"), message.get("content"), calls, message.get("tool_call_id")
    )


def _chat_tool_call(call: Mapping[str, Any]) -> object:
    function = fields(call.get("function") or call.get("custom"))
    return tool_call(
        call.get("id"), function.get("name"), function.get("arguments") or function.get("input")
    )


def _tool_call(item: Mapping[str, Any]) -> object:
    given = item.get("arguments", item.get("input"))
    return tool_call(item.get("call_id"), item.get("name"), given)


def _item(item: Mapping[str, Any]) -> Any:
    """Returns one item of the Responses API's input as a message."""
    kind = item.get("type", "message")
    if kind in _CALLS:
        return message_from("assistant", "", [_tool_call(item)])
    if kind in _OUTPUTS:
        return message_from("tool", item.get("output"), answers=item.get("call_id"))
    if kind == "reasoning":
        return message_from("assistant", [{"type": kind, **part} for part in _reasoning(item)])
    # Calls of OpenAI's own tools, which the model has made, have neither role nor content.
    role = "user" if kind == "message" else "assistant"
    return message_from(item.get("role", role), item.get("content"))


def _joined(parts: Sequence[Any]) -> object:
    """Returns a message, or the deltas of one, as a message."""
    text = "".join(str(getattr(part, "content", None) or "") for part in parts)
    calls: dict[object, dict[str, Any]] = {}
    for part in parts:
        for position, call in enumerate(as_sequence(getattr(part, "tool_calls", None))):
            index = getattr(call, "index", None)
            known = calls.setdefault(position if index is None else index, {})
            function = getattr(call, "function", None) or getattr(call, "custom", None)
            arguments = getattr(function, "arguments", None) or getattr(function, "input", None)
            for name, found in (
                ("id", getattr(call, "id", None)),
                ("name", getattr(function, "name", None)),
                ("arguments", arguments),
            ):
                before = known.get(name, "")
                # Some servers send the arguments as an object, and whole.
                if isinstance(before, str) and isinstance(found, str):
                    known[name] = before + found
                elif found or name not in known:
                    known[name] = found or ""
    return message_from(
        "assistant",
        text,
        [tool_call(call["id"], call["name"], call["arguments"]) for call in calls.values()],
    )
