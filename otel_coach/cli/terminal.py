"""Prints untrusted text and errors safely, and limits the time that a command waits for others."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import TYPE_CHECKING, TextIO, TypeVar

from otel_coach.core.guard import OwnThread

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def printable(text: str) -> str:
    """Returns `text` with all unprintable characters escaped, such as control characters."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def say(text: str, to: TextIO | None = None) -> None:
    """Prints `text` as one line; escapes characters that the terminal's encoding lacks.

    It goes to the standard output, unless another stream is given.
    """
    stream = to or sys.stdout
    encoding = stream.encoding or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def reason_of(error: Exception) -> str:
    """Returns the system's words for `error`, else its class; a message may repeat a secret."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """Runs `work` in a thread, and returns or raises what it does.

    A thread that takes longer than `seconds` goes on, but nobody waits for it.

    Raises:
        TimeoutError: `work` takes longer than `seconds`.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as raised:  # noqa: BLE001 - it is raised in the waiting thread
            done.set_exception(raised)

    OwnThread(run, "otel-coach-within").start()
    return done.result(seconds)
