"""Lines that several processes append, which all of them read in the same order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from otel_coach.workers.parents import open_private

if TYPE_CHECKING:
    from pathlib import Path

_MOST_AT_ONCE: Final = 1 << 20


class SharedLog:
    """A file to which whole lines are appended; nobody waits for anybody.

    The system appends each write as a whole behind the others. A line that a full disk cut off is
    closed by the next one, and is for its readers to recognise.
    """

    def __init__(self, path: Path) -> None:
        """Take part.

        Raises:
            OSError: the file cannot be opened.
        """
        self._file = open_private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._read = 0

    def append(self, line: bytes) -> None:
        """Add `line`, in which there is no line end.

        Raises:
            OSError: it cannot be written.
        """
        whole = b"\n" + line + b"\n"
        if os.write(self._file, whole) < len(whole):
            message = "the line was cut off"
            raise OSError(message)

    def new_lines(self) -> list[bytes]:
        """The lines that were not read yet; what has no end yet is read the next time.

        Raises:
            OSError: they cannot be read.
        """
        lines: list[bytes] = []
        while block := os.pread(self._file, _MOST_AT_ONCE, self._read):
            complete, end, _ = block.rpartition(b"\n")
            if not end:
                if len(block) < _MOST_AT_ONCE:
                    break  # somebody is at it
                self._read += len(block)  # zeros of a disk that was not well: no line is so long
                continue
            self._read += len(complete) + 1
            lines += filter(None, complete.split(b"\n"))
        return lines
