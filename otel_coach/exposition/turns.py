"""Long work in a thread that lets the event loop's thread have its turn."""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import ExitStack
from typing import Final

_TURN: Final = 0.0005
"""Seconds after which a thread that waits gets the interpreter; Python's default is 0.005."""


class ShortTurns:
    """Work in short turns, and without the garbage collector, whose turn may be a long one.

    Both are settings of the whole process: they are the host's again when the last thread that
    works so is done. What is made meanwhile goes with its last user, without the collector.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._begin_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """In a forked child none of the threads that work so goes on."""
        self._lock = threading.Lock()
        self._working = 0
        self._undo.close()

    def __enter__(self) -> None:
        with self._lock:
            if not self._working:
                self._undo.callback(sys.setswitchinterval, sys.getswitchinterval())
                sys.setswitchinterval(min(_TURN, sys.getswitchinterval()))
                if gc.isenabled():
                    self._undo.callback(gc.enable)
                    gc.disable()
            self._working += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._working -= 1
            if not self._working:
                self._undo.close()


short_turns: Final = ShortTurns()
"""Of this process."""
