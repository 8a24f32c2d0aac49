"""Lets a thread do CPU-heavy work without delaying the event loop."""

from __future__ import annotations

import sys
import threading
from typing import Final

from otel_coach.core.forks import in_each_child

_SWITCH_INTERVAL: Final = 0.0005
"""Seconds after which a waiting thread gets the interpreter lock; Python's default is 0.005."""


class ShortSwitchInterval:
    """A context manager that shortens the interpreter's switch interval.

    The interval is a setting of the whole process. The host's own value is restored when the last
    thread leaves the context, unless the host has set another value meanwhile.
    """

    def __init__(self) -> None:
        self._host_interval = self._own_interval = 0.0
        self._reset()
        in_each_child(self._reset)

    def _reset(self) -> None:
        """Sets the initial state, also in a forked child, which has none of the other threads."""
        self._lock = threading.Lock()
        self._working = 0
        self._restore()

    def __enter__(self) -> None:
        with self._lock:
            if not self._working:
                self._host_interval = sys.getswitchinterval()
                sys.setswitchinterval(min(_SWITCH_INTERVAL, self._host_interval))
                self._own_interval = sys.getswitchinterval()  # as the interpreter rounds it
            self._working += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._working -= 1
            if not self._working:
                self._restore()

    def _restore(self) -> None:
        if self._own_interval and sys.getswitchinterval() == self._own_interval:
            sys.setswitchinterval(self._host_interval)
        self._own_interval = 0.0


in_background: Final = ShortSwitchInterval()
"""The one instance of this process; use it as `with in_background:`."""
