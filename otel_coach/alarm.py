"""A thread that does something a moment after it was asked to."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import sleep
from typing import TYPE_CHECKING, Final

from otel_coach.guards import OwnThread

if TYPE_CHECKING:
    from collections.abc import Callable

_GO_ON: Final = object()
_STOP: Final = object()


class Alarm:
    """Calls `ring`, which must not raise, `delay` seconds after it was set; then it can be again.

    The thread is started when it is first needed, because a server may fork until then.

    Args:
        ring: what is called.
        delay: in seconds.
        name: of the thread.
        fault: told of what ends the thread in spite of all.
    """

    def __init__(
        self,
        ring: Callable[[], object],
        delay: float,
        name: str,
        fault: Callable[[BaseException, str], None],
    ) -> None:
        self._ring = ring
        self._delay = delay
        self._name = name
        self._fault = fault
        self._is_closed = False
        self.forked()

    def forked(self) -> None:
        """In a forked child there is no thread."""
        self.is_set = False
        self._starting = threading.Lock()
        self._wakes: SimpleQueue[object] | None = None
        """What the thread waits for: a queue that a finaliser may put to at any moment."""

    def set(self, *, may_start: bool) -> bool:
        """Have it ring; False if there is no thread for that.

        Inside the garbage collector none may be started: that takes locks of `threading`, which
        the code around may hold.
        """
        if self._wakes is None and not (may_start and self._start()):
            return False
        self.is_set = True
        if (wakes := self._wakes) is not None:
            wakes.put(_GO_ON)
        return wakes is not None

    def close(self) -> None:
        """End the thread; there will be no other."""
        self._is_closed = True
        wakes, self._wakes, self.is_set = self._wakes, None, False
        if wakes is not None:
            wakes.put(_STOP)

    def _start(self) -> bool:
        if self._is_closed or not self._starting.acquire(blocking=False):
            return False
        try:
            wakes = SimpleQueue[object]()
            OwnThread(lambda: self._run(wakes), self._name, self._fault).start()
        except RuntimeError:  # no thread can be had
            return False
        else:
            self._wakes = wakes
            return True
        finally:
            self._starting.release()

    def _run(self, wakes: SimpleQueue[object]) -> None:
        while wakes.get() is not _STOP:
            sleep(self._delay)
            self.is_set = False
            self._ring()
