"""Decides how the local provider answers, by the directives in the last user message.

For `[tool:weather] [cut] How was my week?` it first answers with a call of the tool `weather`; when
the tool's result arrives, it cuts the stream of the text answer half-way. See `Directions`.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

_ANSWER = (
    "Keep most of your runs easy, add one faster session a week, sleep well,"
    " and enjoy the long run on Sunday."
)
_TOOL_ARGUMENTS = {"weather": {"city": "Berlin"}, "recent_activities": {"athlete": "anna"}}

_DIRECTIVE = re.compile(r"\[([a-z-]+)(?::([^\]\s]+))?\]")
_TOKEN = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directions:
    """The directives of a user message, each a `[directive]` or `[directive:value]` in its text."""

    tools: tuple[str, ...] = ()  # [tool:NAME], one call after the other, before the answer
    fail: int | None = None  # [fail:STATUS] instead of an answer
    cut: bool = False  # [cut] closes the connection half-way
    garbage: bool = False  # [garbage] sends something that is not JSON half-way
    empty: bool = False  # [empty] answers with an empty text
    delay: float = 0.0  # [delay:SECONDS] before anything is sent
    pace: float = 0.0  # [pace:SECONDS] between chunks
    tokens: int | None = None  # [tokens:N] makes the answer N words long
    cached: int = 0  # [cached:N] of the prompt's tokens
    reasoning: int = 0  # [reasoning:N] tokens in addition to the answer's words
    say: str = ""  # [say:WORD] is the answer, and part of an error's message
    ask: str = ""  # [ask:WORD] is the only argument of the tool that is called
    usage: bool = True  # [no-usage] withholds the usage block

    @classmethod
    def read(cls, message: str) -> "Directions":
        """Read a user message; a value that is not a number raises ValueError."""
        directives = _DIRECTIVE.findall(message)
        values: dict[str, str] = dict(directives)
        return cls(
            tools=tuple(value for name, value in directives if name == "tool" and value),
            fail=int(values["fail"]) if "fail" in values else None,
            cut="cut" in values,
            garbage="garbage" in values,
            empty="empty" in values,
            delay=float(values.get("delay", 0)),
            pace=float(values.get("pace", 0)),
            tokens=int(values["tokens"]) if "tokens" in values else None,
            cached=int(values.get("cached", 0)),
            reasoning=int(values.get("reasoning", 0)),
            say=values.get("say", ""),
            ask=values.get("ask", ""),
            usage="no-usage" not in values,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in pieces of one token each: a text, or the arguments of a call of `tool`."""

    pieces: list[str]
    tool: str | None = None


def direct(messages: list[dict[str, Any]]) -> tuple[Directions, Answer]:
    """Return the last user message's directions, and the next answer of the conversation."""
    users = [place for place, message in enumerate(messages) if message["role"] == "user"]
    last = users[-1] if users else 0
    directions = Directions.read(_text(messages[last]))
    tools_done = sum(message["role"] == "tool" for message in messages[last:])
    if tools_done < len(directions.tools):
        tool = directions.tools[tools_done]
        asked = {"text": directions.ask} if directions.ask else _TOOL_ARGUMENTS.get(tool, {})
        arguments = json.dumps(asked)
        # Only the final answer fails; the tool calls before it succeed.
        straight = replace(directions, fail=None, cut=False, garbage=False)
        return straight, Answer(_TOKEN.findall(arguments), tool)
    if directions.say:
        return directions, Answer([directions.say])
    return directions, Answer(_words(0 if directions.empty else directions.tokens))


def count_tokens(messages: list[dict[str, Any]]) -> int:
    """Return the number of a prompt's tokens: the words of all its messages."""
    return sum(len(_text(message).split()) for message in messages)


def count_tokens_to_embed(given: list[Any]) -> int:
    """Return the tokens of what is to be embedded: words, or the ids of tokens themselves."""
    return sum(
        len(part.split()) if isinstance(part, str) else len(part) if isinstance(part, list) else 1
        for part in given
    )


def _words(count: int | None) -> list[str]:
    words = _TOKEN.findall(_ANSWER)
    if count is None:
        return words
    repeated = _TOKEN.findall(" ".join([_ANSWER] * (count // len(words) + 1)))
    return repeated[:count]


def _text(message: dict[str, Any]) -> str:
    """Return a message's text, whether it is a string, a list of parts, or absent."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)
