"""What is read from the answers and the streams of Anthropic's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.core.plain import text_of
from otel_coach.instrumentors.genai.direct_call import (
    DirectCall,
    dumped,
    fields,
    listed_fields,
    message_from,
    tool_call,
)
from otel_coach.instrumentors.genai.usage_blocks import as_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CONTENT_DELTAS: Final = ("text", "partial_json", "thinking")
_TOOL_USES: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


class MessagesCall(DirectCall):
    """A call of the Messages API."""

    __slots__ = ("_usage_at_start",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._usage_at_start: object = None

    def prompt_messages(self) -> Sequence[object]:
        system = self.parameters.get("system")
        messages = [message_from("system", system)] if system else []
        for message in listed_fields(self.parameters.get("messages")):
            messages += _messages(text_of(message.get("role")), message.get("content"))
        return messages

    def chunk_came(self, chunk: Any) -> None:
        self.was_streamed = True
        kind = getattr(chunk, "type", None)
        if kind == "content_block_delta":
            delta = getattr(chunk, "delta", None)
            if any(getattr(delta, name, None) for name in _CONTENT_DELTAS):
                self.token_came(is_reasoning=bool(getattr(delta, "thinking", None)))
        elif kind == "content_block_start":
            if getattr(getattr(chunk, "content_block", None), "type", None) in _TOOL_USES:
                self.token_came()
        elif kind == "message_start":
            message = getattr(chunk, "message", None)
            self.answered_model = getattr(message, "model", None)
            self._usage_at_start = getattr(message, "usage", None)
        elif kind == "message_delta":
            self._message_changed(chunk)
        if self.output is not None:
            self.output.append(chunk)

    def _message_changed(self, chunk: Any) -> None:
        """Notes the end of the message: its reason, and its usage, which replaces the first.

        The usage at the start is no bill by itself: the tokens of the answer are missing.
        """
        reason = getattr(getattr(chunk, "delta", None), "stop_reason", None)
        if reason:
            self.finished(reason)
        found = fields(getattr(chunk, "usage", None))
        known = {key: value for key, value in found.items() if value is not None}
        if known:
            self.usage_block = {**fields(self._usage_at_start), **known}

    def answer_came(self, answer: Any) -> None:
        self.usage_block = getattr(answer, "usage", None)
        self.answered_model = getattr(answer, "model", None)
        if reason := getattr(answer, "stop_reason", None):
            self.finished(reason)
        if self.output is not None:
            self.output += as_sequence(getattr(answer, "content", None))

    def answer_messages(self) -> Sequence[object]:
        blocks = self.output or ()
        if self.was_streamed:
            blocks = _blocks_of(blocks)
        return _messages("assistant", [dumped(block) for block in blocks])


class TextCompletionCall(DirectCall):
    """A call of the older Text Completions API, which reports no usage."""

    __slots__ = ()

    def prompt_messages(self) -> Sequence[object]:
        return [message_from("user", self.parameters.get("prompt"))]

    def chunk_came(self, chunk: Any) -> None:
        self.was_streamed = True
        if getattr(chunk, "completion", None):
            self.token_came()
        self.answer_came(chunk)

    def answer_came(self, answer: Any) -> None:
        self.answered_model = getattr(answer, "model", None)
        if reason := getattr(answer, "stop_reason", None):
            self.finished(reason)
        if self.output is not None:
            self.output.append(str(getattr(answer, "completion", "")))

    def answer_messages(self) -> Sequence[object]:
        return [message_from("assistant", "".join(self.output or ()))]


def _messages(role: str, content: object) -> list[Any]:
    """Returns a message of Anthropic's; the results of tools in it are messages of their own."""
    if isinstance(content, str):
        return [message_from(role, content)]
    said: list[Mapping[str, Any]] = []
    calls: list[object] = []
    messages: list[Any] = []
    for block in listed_fields(content):
        if block.get("type") in _TOOL_USES:
            calls.append(tool_call(block.get("id"), block.get("name"), block.get("input")))
        elif block.get("type") == "tool_result":
            messages.append(
                message_from("tool", block.get("content"), answers=block.get("tool_use_id"))
            )
        else:
            said.append(block)
    return (
        [*messages, message_from(role, said, calls)] if said or calls or not messages else messages
    )


def _blocks_of(events: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the content blocks in the events of a stream, as far as they came."""
    blocks: dict[object, dict[str, Any]] = {}
    for event in events:
        index = getattr(event, "index", None)
        if getattr(event, "type", None) == "content_block_start":
            start = cast("Mapping[str, Any]", dumped(event.content_block))
            blocks[index] = {**start, "input": ""} if "input" in start else {**start}
        elif getattr(event, "type", None) == "content_block_delta" and index in blocks:
            for name in _CONTENT_DELTAS:
                key = "input" if name == "partial_json" else name
                said = getattr(event.delta, name, None)
                if said:
                    blocks[index][key] = str(blocks[index].get(key) or "") + str(said)
    yield from blocks.values()
