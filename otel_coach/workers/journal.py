"""A worker's file: a full snapshot of its metrics, followed by the changes since."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from otel_coach.workers.run_dir import RunDir

_MIN_APPENDED: Final = 1 << 18
"""Bytes that may be appended before the file starts over, even if the snapshot is smaller."""


class Journal:
    """Writes a worker's file.

    The file starts over with a full snapshot after each fault, when the appended changes have
    become larger than the snapshot and `_MIN_APPENDED`, and when another process has replaced or
    changed the file.
    """

    def __init__(self, folder: RunDir, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._file: int | None = None
        self._whole = self._size = 0
        """Sizes in bytes: of the snapshot at the start of the file, and of the whole file."""

    @property
    def begins(self) -> bool:
        """Whether the next write must be a full snapshot, by `begin`."""
        return (
            self._file is None
            or self._size > self._whole + max(self._whole, _MIN_APPENDED)
            or not self._is_in_place(self._file)
        )

    def begin(self, whole: bytes) -> None:
        """Replaces the file by the full snapshot `whole`.

        Raises:
            OSError: the file cannot be written, and the old one is kept; or it cannot be reopened.
        """
        self.close()
        self._folder.write(self._path, whole)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._whole = self._size = len(whole)

    def append(self, changed: bytes) -> None:
        """Appends `changed`; only valid while `begins` is False.

        Raises:
            OSError: it cannot be written, or only in part; readers ignore an incomplete block.
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
            message = "the write was truncated"
            raise OSError(errno.ENOSPC, message)

    def close(self) -> None:
        """Closes the file; `append` does nothing until the next `begin`."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _is_in_place(self, file: int) -> bool:
        """Whether `file` is still the one at its path, with the size that this process wrote."""
        try:
            open_file, at_path = os.fstat(file), os.lstat(self._path)
        except OSError:
            return False
        return (open_file.st_dev, open_file.st_ino, open_file.st_size) == (
            at_path.st_dev,
            at_path.st_ino,
            self._size,
        )
