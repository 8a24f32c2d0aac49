"""Limits how fast pages are sent, because sending takes processor time from the application."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PIECE: Final = 1 << 16
"""Bytes in one message to the server, which thus buffers no whole page for a slow client."""
_RATE: Final = 32e6
"""Bytes per second, for all answers together: about 500 pieces, each taking 0.1 to 0.2 ms."""
_BURST: Final = 16e6
"""Bytes that may be sent without a pause, after a time in which little was sent."""


class Bandwidth:
    """The bandwidth of one process; all senders share it, and each reserves what it sends next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0

    async def until_free(self, size: int, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Reserves what `size` bytes take, and waits by `sleep` until they may be sent.

        If the wait is cancelled, because the client has left, the bandwidth is free again.
        """
        if seconds := self.reserve(size):
            try:
                await sleep(seconds)
            except BaseException:
                self.give_back(size)
                raise

    def reserve(self, size: int) -> float:
        """Reserves what `size` bytes take, at least a `PIECE`; returns how long to wait (s)."""
        now = monotonic()
        with self._lock:
            begins = max(self._free_at, now - _BURST / _RATE)
            self._free_at = begins + max(size, PIECE) / _RATE
            return max(0.0, self._free_at - now)

    def give_back(self, size: int) -> None:
        """Takes back what `reserve` has reserved: the client has left before it was sent."""
        with self._lock:
            self._free_at -= max(size, PIECE) / _RATE
