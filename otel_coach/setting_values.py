"""What the text of a variable may be, and what it means.

Each function raises ValueError with the rest of the sentence that begins with the variable's text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def words(text: str) -> tuple[str, ...]:
    """What stands between commas, each once, without `none`; raises nothing."""
    found = (word.strip() for word in text.split(","))
    return tuple(dict.fromkeys(word for word in found if word and word != "none"))


def patterns(text: str) -> str:
    """Regular expressions by comma, as they came."""
    try:
        re.compile("|".join(pattern.strip() for pattern in text.split(",")))  # as it is used
    except (re.error, OverflowError, RecursionError) as error:
        message = f"is no list of regular expressions by comma ({error})"
        raise ValueError(message) from None
    return text


def _whole_number(what: str, lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            message = f"is not {what} from {lowest} to {highest}"
            raise ValueError(message)
        return int(text)

    return parse


count: Final = _whole_number("a whole number", 1, 100_000)
places: Final = _whole_number("a whole number", 1, 10_000_000)
port: Final = _whole_number("a port", 0, 65_535)
characters: Final = _whole_number("a number of characters", 1, 1_000_000)


def seconds(text: str) -> float:
    """A time, up to a day."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 < found <= 86_400:  # noqa: PLR2004 - a day; also keeps nan and inf out
        message = "is not a number of seconds between 0 and 86400"
        raise ValueError(message)
    return found


def capture_mode(text: str) -> str:
    """Where content is captured, in capitals."""
    mode = text.upper()
    if mode not in {"NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"}:
        message = "is none of NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT"
        raise ValueError(message)
    return mode


def server_spans(text: str) -> str:
    """Who makes the server spans."""
    if text not in {"otel_coach", "fastapi"}:
        message = "is neither otel_coach nor fastapi"
        raise ValueError(message)
    return text


def path(text: str) -> str:
    """The path of a page."""
    if not text.startswith("/") or not text.isascii() or any(c in text for c in "?# "):
        message = "is not a path that starts with /"
        raise ValueError(message)
    return text
