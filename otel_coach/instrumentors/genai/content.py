"""Opt-in capture of message content, in the format of the GenAI semantic conventions.

System messages stay among the others, because LangChain passes them as part of the history.
"""

from __future__ import annotations

import json
import logging
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from opentelemetry._logs import LogRecord, SeverityNumber

from otel_coach.core.guard import belongs_to_host
from otel_coach.core.plain import text_of
from otel_coach.core.traps import REDACTOR
from otel_coach.instrumentors.genai.billing import generations_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.context import Context
    from opentelemetry.util.types import AnyValue

    class ContentArguments(TypedDict):
        """The arguments of `ContentCapture`."""

        on_spans: bool
        on_events: bool
        limit: int
        redactor: str | None


_logger = logging.getLogger("otel_coach")

_ROLES: Final = {"human": "user", "ai": "assistant", "function": "tool"}
_CHUNK: Final = "MessageChunk"
"""How the type of LangChain's chunks ends, which the whole message of a stream keeps."""
_TEXT: Final = frozenset({"text", "input_text", "output_text"})
_REASONING: Final = frozenset({"reasoning", "thinking"})
_CUT: Final = "..."
_MAX_DEPTH: Final = 20


@dataclass
class ContentCapture:
    """Where content is emitted, and how much of it.

    Args:
        on_spans: whether to put it on spans of chats, tools and retrievals, as attributes in JSON.
        on_events: whether to emit one event for each chat, with structured attributes.
        limit: characters of all texts and numbers of an attribute; the newest messages are kept.
        redactor: `module:function`, called with each text before it is cut; returns the text to
            emit. While it cannot be imported, or fails, no content is emitted.
    """

    on_spans: bool = False
    on_events: bool = False
    limit: int = 10_000
    redactor: str | None = None
    _is_error_logged: bool = False
    _redact: Callable[[str], str] | None = None

    def redactor_function(self) -> Callable[[str], str] | None:
        """Returns the redactor, imported when it is first needed; None if it cannot be imported.

        It may be part of the application, so a later call tries again. That it is not found is a
        mistake in the settings, and no fault of otel-coach: it is logged, not counted.
        """
        if self._redact is None:
            try:
                self._redact = str if self.redactor is None else pkgutil.resolve_name(self.redactor)
            except Exception as error:
                if belongs_to_host(error):
                    raise
                if not self._is_error_logged:
                    self._is_error_logged = True
                    line = REDACTOR.found(redactor=self.redactor, reason=type(error).__name__)
                    _logger.error("otel-coach: %s", line)  # noqa: TRY400 - one line with the cure
        return self._redact

    def of_call(self, prompt: Sequence[object], response: object) -> dict[str, Any] | None:
        """Returns the input and output messages of a model call, as attributes of an event.

        Returns None if the redactor that was asked for cannot be imported.
        """
        if (redact := self.redactor_function()) is None:
            return None
        generations = generations_of(response)
        found = {
            "gen_ai.input.messages": _input_messages(prompt, _Room(self.limit, redact)),
            "gen_ai.output.messages": _output_messages(generations, _Room(self.limit, redact)),
        }
        return {name: messages for name, messages in found.items() if messages}

    def of_tool(self, arguments: object, result: object) -> dict[str, Any]:
        """Returns the arguments and the result of a tool call, as attributes of its span."""
        if (redact := self.redactor_function()) is None:
            return {}
        result = getattr(result, "content", result)
        found = {
            "gen_ai.tool.call.arguments": _bounded(arguments, _Room(self.limit, redact)),
            "gen_ai.tool.call.result": _bounded(result, _Room(self.limit, redact)),
        }
        return {name: value for name, value in found.items() if value is not None}

    def of_retrieval(self, query: object, documents: object) -> dict[str, Any]:
        """Returns the query and the documents of a retrieval, as attributes of its span."""
        if (redact := self.redactor_function()) is None:
            return {}
        text = _bounded(query, _Room(self.limit, redact))
        found: dict[str, Any] = {"gen_ai.retrieval.query.text": text}
        if isinstance(documents, list | tuple):
            room = _Room(self.limit, redact)
            found["gen_ai.retrieval.documents"] = [
                {
                    "id": _bounded(getattr(document, "id", None), room),
                    "content": _bounded(getattr(document, "page_content", None), room),
                }
                for document in room.fitting(cast("Sequence[object]", documents))
            ]
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def as_span_attributes(content: Mapping[str, Any]) -> dict[str, str]:
        """Returns `content` as span attributes: JSON, except for texts, which stay as they are."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            for name, value in content.items()
        }

    @staticmethod
    def event_of_call(
        attributes: Mapping[str, AnyValue], time_ns: int, context: Context | None
    ) -> LogRecord:
        """Returns the event of the GenAI semantic conventions for one model call."""
        return LogRecord(
            event_name="gen_ai.client.inference.operation.details",
            timestamp=time_ns,
            context=context,
            severity_number=SeverityNumber.DEBUG,
            attributes=attributes,
        )


def _input_messages(prompt: Iterable[object], room: _Room) -> list[dict[str, Any]]:
    """Returns the newest messages that the limit has room for, in their original order."""
    lists = (item if isinstance(item, list) else [item] for item in prompt)
    newest_first = reversed([*chain.from_iterable(lists)])
    return [_message(message, "user", room) for message in room.fitting(newest_first)][::-1]


def _output_messages(generations: Iterable[object], room: _Room) -> list[dict[str, Any]]:
    return [
        _message(getattr(item, "message", None) or getattr(item, "text", ""), "assistant", room)
        for item in room.fitting(generations)
    ]


class _Room:
    """The characters that are left of an attribute's limit."""

    def __init__(self, limit: int, redact: Callable[[str], str]) -> None:
        self.left = limit
        self._redact = redact

    def fitting(self, items: Iterable[object]) -> Iterator[object]:
        """Yields `items` as long as there is room; the caller takes the texts of each."""
        return takewhile(lambda _: self.left > 0, items)

    def take(self, text: str) -> str:
        """Returns `text`, redacted and cut to the room that is left."""
        text = self._redact(text).encode(errors="replace").decode()
        room, self.left = max(0, self.left), self.left - len(text)
        return text if len(text) <= room else text[:room] + _CUT


def _message(message: Any, default_role: str, room: _Room) -> dict[str, Any]:
    if isinstance(message, str):  # from a text completion model
        return {"role": default_role, "parts": [_text(message, room)]}
    kind = text_of(getattr(message, "type", "user"))
    if kind.endswith(_CHUNK):
        kind = kind.removesuffix(_CHUNK).lower()
    role = text_of(getattr(message, "role", "")) or _ROLES.get(kind, kind)
    return {"role": role, "parts": list(_parts(message, role, room))}


def _parts(message: Any, role: str, room: _Room) -> Iterator[dict[str, Any]]:
    content = getattr(message, "content", "")
    if role == "tool":
        yield {
            "type": "tool_call_response",
            "id": getattr(message, "tool_call_id", None),
            "response": _bounded(content, room),
        }
        return
    for block in cast("list[object]", content) if isinstance(content, list) else [content]:
        if room.left <= 0:
            break
        if block and (part := _part(block, room)) is not None:
            yield part
    for call in getattr(message, "tool_calls", None) or ():
        yield {
            "type": "tool_call",
            "id": call.get("id"),
            "name": room.take(text_of(call.get("name"))),
            "arguments": _bounded(call.get("args"), room),
        }


def _part(block: object, room: _Room) -> dict[str, Any] | None:
    """Returns one block of a message; None for a tool call, which `tool_calls` has as well."""
    if isinstance(block, str):
        return _text(block, room)
    fields = cast("Mapping[str, Any]", block) if isinstance(block, Mapping) else {}
    kind = text_of(fields.get("type", "unknown"))
    if kind in _TEXT:
        return _text(str(fields.get("text", "")), room)
    if kind in _REASONING:
        text = fields.get("reasoning") or fields.get("thinking") or fields.get("text") or ""
        return {"type": "reasoning", "content": room.take(str(text))}
    if kind in {"tool_use", "tool_call", "function_call"}:
        return None
    return {"type": kind}  # an image or a file: only its type


def _text(text: object, room: _Room) -> dict[str, Any]:
    return {"type": "text", "content": room.take(str(text))}


def _bounded(value: object, room: _Room, depth: int = 0) -> Any:
    """Returns `value` as JSON types, with its texts cut to the room that is left."""
    if value is None or isinstance(value, bool | int | float):
        room.left -= len(str(value))
        return value
    if isinstance(value, str):
        return room.take(value)
    if depth < _MAX_DEPTH and room.left > 0:
        if isinstance(value, Mapping):
            pairs = cast("Mapping[object, object]", value).items()
            fitting = takewhile(lambda _: room.left > 0, pairs)
            return {room.take(str(k)): _bounded(v, room, depth + 1) for k, v in fitting}
        if isinstance(value, list | tuple):
            items = takewhile(lambda _: room.left > 0, cast("Iterable[object]", value))
            return [_bounded(item, room, depth + 1) for item in items]
    return type(value).__name__
