"""Reads pages and query APIs with the doctor's code, which only this module of the package imports.

Answers are untrusted: bytes and seconds are limited, and every fault is one line with a cure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from otel_coach.cli.doctor import fetch
from otel_coach.cli.doctor.fetch import (
    PROMETHEUS_OPTION,
    PageError,
    answered,
    fetched,
    shown,
    why_unreadable,
)
from otel_coach.cli.reconciliation.figures import InputError
from otel_coach.cli.terminal import within

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES: Final = fetch.MAX_BYTES
"""The largest page, and the largest answer of a query API."""

_T = TypeVar("_T")

__all__ = [
    "MAX_BYTES",
    "PROMETHEUS_OPTION",
    "is_address",
    "name_of",
    "not_our_page",
    "page_text",
    "read_within",
    "reply",
    "shown",
]


def name_of(place: str) -> str:
    """Returns an address without the parts that may be secret, or the path of a file."""
    return shown(place) if is_address(place) else place


def is_address(place: str) -> bool:
    """Whether `place` is an address, and not the path of a file."""
    return "://" in place


def page_text(url: str, token: str | None, option: str) -> str:
    """Returns the page at `url`, as `fetch.fetched` does."""
    return fetched(url, token, option).text


def reply(url: str, option: str, seconds: float) -> tuple[int, bytes]:
    """Returns status and body of the answer to a GET of `url`; the body is cut after MAX_BYTES + 1.

    The answer may take `seconds` to begin.

    Raises:
        PageError: `url` is no address of http or https.
    """
    with answered(url, None, option, seconds) as answer:
        return answer.status, answer.read(MAX_BYTES + 1)


def read_within(seconds: float, place: str, question: str, work: Callable[[], _T]) -> _T:
    """Runs `work`, which reads from `place`; returns what it does.

    Raises:
        InputError: It failed or took longer than `seconds`; the message ends with `question`.
    """
    try:
        return within(seconds, work)
    except InputError:
        raise
    except PageError as error:
        raise InputError(str(error.finding)) from None
    except Exception as error:  # noqa: BLE001 - an untrusted server may make a client raise anything
        why = why_unreadable(error, seconds)
        message = f"{shown(place)} cannot be read ({why}); {question}"
        raise InputError(message) from None


def not_our_page(place: str) -> str:
    """Returns what is wrong with a page that has none of otel-coach's lines, and what to do."""
    if is_address(place):
        return (
            f"{shown(place)} answers, but not with otel-coach's page; is this its address, and "
            "does the service run under otel-coach?"
        )
    return f"{place} has none of otel-coach's metrics; save a page of /metrics there"
