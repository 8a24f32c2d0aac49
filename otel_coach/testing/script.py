"""What a scripted provider answers, and what it was asked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN: Final = re.compile(r"\s*\S+(?:\s+\Z)?")


@dataclass(frozen=True)
class ToolCall:
    """An answer: the model asks for the tool `name` with these arguments.

    Raises:
        TypeError: they cannot be sent as JSON.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])

    def __post_init__(self) -> None:
        try:
            json.dumps(dict(self.arguments))
        except (TypeError, ValueError) as error:
            message = f"the arguments of ToolCall({self.name!r}) cannot be sent as JSON: {error}"
            raise TypeError(message) from None


@dataclass(frozen=True)
class Failure:
    """An answer: an error with that HTTP status."""

    status: int = 500
    message: str = "a failure of the script"


@dataclass(frozen=True)
class Call:
    """A request to the provider, and what its answer was billed."""

    model: str
    is_stream: bool
    messages: tuple[Mapping[str, Any], ...]
    """The messages of a chat; the instructions and the input of a response; the texts of an
    embedding, as one message."""
    status: int
    prompt_tokens: int
    """The words of all messages; 0 for a failure."""
    completion_tokens: int
    """The words of the answer, or of a tool call's arguments; 0 for a failure."""


def pieces(answer: str | ToolCall | Failure) -> list[str]:
    """Returns the answer's tokens: its words, or those of a tool call's arguments."""
    if isinstance(answer, Failure):
        return []
    return _TOKEN.findall(answer if isinstance(answer, str) else json.dumps(dict(answer.arguments)))


def word_count(message: Mapping[str, Any]) -> int:
    """Returns the number of words in a message, or in a tool's answer (`output`)."""
    content = message.get("content") or message.get("output") or ""
    if isinstance(content, str):
        return len(content.split())
    return sum(len((part.get("text") or "").split()) for part in content)
