"""How fast pages go out, whoever reads them: to send them is work for the application's thread."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Final

PIECE: Final = 1 << 16
"""Bytes that are handed to the server at once: a slow client keeps no whole page in memory."""
_RATE: Final = 32e6
"""Bytes a second, of all answers together: some 500 pieces, each of 0.1 to 0.2 ms."""
_AT_ONCE: Final = 16e6
"""Bytes that may go out without a pause; they are earned again by not being used."""


class Bandwidth:
    """That of one process. Who sends asks for each piece, so that all get on alike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0

    def seconds_until(self, size: int) -> float:
        """How long to wait before so many bytes are sent; a small answer counts as a piece."""
        now = monotonic()
        with self._lock:
            begins = max(self._free_at, now - _AT_ONCE / _RATE)
            self._free_at = begins + max(size, PIECE) / _RATE
            return max(0.0, self._free_at - now)
