"""A background thread that calls a function a moment after it was requested."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import sleep
from typing import TYPE_CHECKING, Final

from otel_coach.core.guard import OwnThread

if TYPE_CHECKING:
    from collections.abc import Callable

_CALL: Final = object()
_STOP: Final = object()


class DelayedCall:
    """Calls `function` `delay` seconds after `set` was called; then `set` can be called again.

    The thread is started only when it is first needed, because a server may fork before that.

    Args:
        function: what to call; it must not raise.
        delay: in seconds.
        name: the thread's name.
        fault: called with an exception that `function` raises nevertheless, and the thread's name.
    """

    def __init__(
        self,
        function: Callable[[], object],
        delay: float,
        name: str,
        fault: Callable[[BaseException, str], None],
    ) -> None:
        self._function = function
        self._delay = delay
        self._name = name
        self._fault = fault
        self._is_closed = False
        self.forked()

    def forked(self) -> None:
        """Resets the state in a forked child, which has no such thread."""
        self.is_set = False
        self._starting = threading.Lock()
        self._wakeups: SimpleQueue[object] | None = None
        """The queue on which the thread waits; a finaliser may put an item at any moment."""

    def set(self, *, may_start: bool) -> bool:
        """Schedules the call; returns False if there is no thread that could make it.

        `may_start` must be False inside the garbage collector: starting a thread takes locks of
        `threading`, which the interrupted code may hold.
        """
        if self._wakeups is None and not (may_start and self._start()):
            return False
        if (wakeups := self._wakeups) is None:  # another thread calls `close`
            return False
        self.is_set = True
        wakeups.put(_CALL)
        if self._is_closed:  # the thread may have ended before it read the item
            self.is_set = False
            return False
        return True

    def close(self) -> None:
        """Ends the thread; no further thread is started."""
        self._is_closed = True
        wakeups, self._wakeups, self.is_set = self._wakeups, None, False
        if wakeups is not None:
            wakeups.put(_STOP)

    def _start(self) -> bool:
        if not self._starting.acquire(blocking=False):
            return False
        try:
            if self._is_closed:
                return False
            if self._wakeups is not None:  # another thread has started it meanwhile
                return True
            wakeups = SimpleQueue[object]()
            OwnThread(lambda: self._run(wakeups), self._name, self._fault).start()
        except RuntimeError:  # no thread can be started
            return False
        else:
            self._wakeups = wakeups
            return True
        finally:
            self._starting.release()

    def _run(self, wakeups: SimpleQueue[object]) -> None:
        while wakeups.get() is not _STOP:
            sleep(self._delay)
            self.is_set = False
            self._function()
