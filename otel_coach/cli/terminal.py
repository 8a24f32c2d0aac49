"""What a command prints, and how long it waits, whatever strangers say and do."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from otel_coach.guards import OwnThread

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def printable(text: str) -> str:
    """`text` with control characters, and others that change what stands around them, escaped."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def say(text: str) -> None:
    """Print one line of it, also where the terminal lacks some of its letters."""
    encoding = sys.stdout.encoding or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding))


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """What `work` returns or raises, in a thread that is left alone after so many seconds.

    Raises:
        TimeoutError: it took longer.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as raised:  # noqa: BLE001 - it is raised where somebody waits
            done.set_exception(raised)

    OwnThread(run, "otel-coach-doctor").start()
    return done.result(seconds)
