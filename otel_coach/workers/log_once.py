"""Decides when to log a lasting failure (disk full, no descriptors): once, with its remedy."""

from __future__ import annotations

import errno
import math
from time import monotonic
from typing import Final

_MIN_INTERVAL: Final = 60.0
"""Seconds between two logged failures, so that one that comes and goes does not fill the log."""
NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
_CURES: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space there."),
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f).",
    **dict.fromkeys(NO_DESCRIPTOR, "Raise the limit of open files (ulimit -n)."),
}

ANOTHER_FOLDER: Final = (
    "Set OTEL_COACH_SHARED_DIR to a folder that only this user can read and write."
)
RESTART: Final = "Restart the service; its counters then start from zero."


class LogOnce:
    """Decides for one operation when to log its failures, however often it is retried.

    Two threads that ask at the same moment may both get True, which does no harm.
    """

    def __init__(self) -> None:
        self._is_logged = False
        self._quiet_until = -math.inf

    def begins(self) -> bool:
        """Notes a failure; returns whether to log it."""
        now = monotonic()
        if self._is_logged or now < self._quiet_until:
            return False
        self._is_logged = True
        self._quiet_until = now + _MIN_INTERVAL
        return True

    def ends(self) -> bool:
        """Notes a success; returns whether to log the recovery: only if the failure was logged."""
        was_logged, self._is_logged = self._is_logged, False
        return was_logged


def reason(error: OSError) -> str:
    """Returns why the operation failed, without the path."""
    return error.strerror or str(error)


def cure(error: OSError, otherwise: str) -> str:
    """Returns the remedy: that for an exhausted resource, or else `otherwise`."""
    return _CURES.get(error.errno or 0, otherwise)
