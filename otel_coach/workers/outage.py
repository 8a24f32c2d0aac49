"""What fails for a while for want of space or of descriptors: said once, with its cure."""

from __future__ import annotations

import errno
import math
from time import monotonic
from typing import Final

_BETWEEN_TWO: Final = 60.0
"""Seconds between two outages that are said: one that comes and goes shall not fill the log."""
NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
_CURES: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space there."),
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f).",
    **dict.fromkeys(NO_DESCRIPTOR, "Raise the limit of open files (ulimit -n)."),
}

RESTART: Final = "Restart the service, which then counts anew."


class Outage:
    """Whether to say that something fails, however often that is tried.

    Two threads that ask at the same moment may both be told to say it, which does no harm.
    """

    def __init__(self) -> None:
        self._is_said = False
        self._quiet_until = -math.inf

    def begins(self) -> bool:
        """It failed; whether to say so."""
        now = monotonic()
        if self._is_said or now < self._quiet_until:
            return False
        self._is_said = True
        self._quiet_until = now + _BETWEEN_TWO
        return True

    def ends(self) -> bool:
        """It worked; whether to say so, because the last that was said is that it fails."""
        was_said, self._is_said = self._is_said, False
        return was_said


def reason(error: OSError) -> str:
    """Why it failed, without the path."""
    return error.strerror or str(error)


def cure(error: OSError, otherwise: str) -> str:
    """What helps: `otherwise`, unless something is used up."""
    return _CURES.get(error.errno or 0, otherwise)
