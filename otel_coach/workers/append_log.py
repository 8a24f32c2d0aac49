"""A log that several processes append to, and that all of them read in the same order."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final

from otel_coach.workers.private_paths import open_private

if TYPE_CHECKING:
    from pathlib import Path

_MAX_AT_ONCE: Final = 1 << 20
"""The most bytes that one read returns."""


class SharedLog:
    """A file to which processes append whole lines, without locks.

    The kernel appends each write as a whole (O_APPEND). If a full disk truncates a line, the next
    append ends it with a newline; readers of the lines must recognise such a fragment.
    """

    def __init__(self, path: Path) -> None:
        """Opens the log, and creates it if it does not exist.

        Raises:
            OSError: the file cannot be opened.
        """
        self._file = open_private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        # Closed only when nothing refers to the log any more: the number of a closed descriptor may
        # soon be another file's, to which a late `append` would write.
        weakref.finalize(self, os.close, self._file).atexit = False
        self._read = 0

    def append(self, line: bytes) -> None:
        """Appends `line`, which must not contain a newline.

        Raises:
            OSError: the line cannot be written, or was written only in part.
        """
        whole = b"\n" + line + b"\n"
        if os.write(self._file, whole) < len(whole):
            message = "the line was truncated"
            raise OSError(message)

    def new_lines(self) -> list[bytes]:
        """Returns the lines not read yet; an unfinished last line is left for the next call.

        Raises:
            OSError: the file cannot be read.
        """
        lines: list[bytes] = []
        while block := os.pread(self._file, _MAX_AT_ONCE, self._read):
            complete, end, _ = block.rpartition(b"\n")
            if not end:
                if len(block) < _MAX_AT_ONCE:
                    break  # a process is still writing this line
                self._read += len(block)  # no line is so long: these are zeros after a disk fault
                continue
            self._read += len(complete) + 1
            lines += filter(None, complete.split(b"\n"))
        return lines
