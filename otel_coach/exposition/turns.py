"""Long work in a thread that lets the event loop's thread have its turn."""

from __future__ import annotations

import sys
import threading
from typing import Final

from otel_coach.forks import in_each_child

_TURN: Final = 0.0005
"""Seconds after which a thread that waits gets the interpreter; Python's default is 0.005."""


class ShortTurns:
    """Work in short turns.

    How long a turn is, is a setting of the whole process: the host's own is put back when the last
    thread that works so is done, unless the host has set another one meanwhile.
    """

    def __init__(self) -> None:
        self._hosts = self._ours = 0.0
        self._begin_anew()
        in_each_child(self._begin_anew)

    def _begin_anew(self) -> None:
        """In a forked child none of the threads that work so goes on."""
        self._lock = threading.Lock()
        self._working = 0
        self._put_back()

    def __enter__(self) -> None:
        with self._lock:
            if not self._working:
                self._hosts = sys.getswitchinterval()
                sys.setswitchinterval(min(_TURN, self._hosts))
                self._ours = sys.getswitchinterval()  # as the interpreter rounds it
            self._working += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._working -= 1
            if not self._working:
                self._put_back()

    def _put_back(self) -> None:
        if self._ours and sys.getswitchinterval() == self._ours:
            sys.setswitchinterval(self._hosts)
        self._ours = 0.0


short_turns: Final = ShortTurns()
"""Of this process."""
