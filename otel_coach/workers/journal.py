"""A worker's file: its figures as a whole, then what changed."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from otel_coach.workers.folder import Folder

_SHORTEST: Final = 1 << 18
"""Bytes; so much is appended at any rate before the file begins anew."""


class Journal:
    """Begins anew where what was appended is more than the whole, and after each fault."""

    def __init__(self, folder: Folder, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._file: int | None = None
        self._whole = self._size = 0
        """Bytes that it began with, and that it has now."""

    @property
    def begins(self) -> bool:
        """Whether what is written next must be the whole."""
        return (
            self._file is None
            or self._size > self._whole + max(self._whole, _SHORTEST)
            or not self._is_in_place(self._file)
        )

    def begin(self, whole: bytes) -> None:
        """Replace what was there.

        Raises:
            OSError: it cannot be written; what was there is there.
        """
        self.close()
        self._folder.write(self._path, whole)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._whole = self._size = len(whole)

    def append(self, changed: bytes) -> None:
        """Add to it. It must not be one that `begins`.

        Raises:
            OSError: it cannot be written, or in part only, which its readers leave out.
        """
        file = self._file
        if file is None or not changed:
            return
        try:
            written = os.write(file, changed)
        except OSError:
            self.close()
            raise
        self._size += written
        if written < len(changed):
            self.close()
            message = "it was cut off"
            raise OSError(errno.ENOSPC, message)

    def close(self) -> None:
        """Write no more."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _is_in_place(self, file: int) -> bool:
        """Whether it is the file that the others read, as this process wrote it."""
        try:
            here, there = os.fstat(file), os.lstat(self._path)
        except OSError:
            return False
        return (here.st_dev, here.st_ino, here.st_size) == (
            there.st_dev,
            there.st_ino,
            self._size,
        )
