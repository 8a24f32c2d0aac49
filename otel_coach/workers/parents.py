"""A folder that nobody but root and this user can read, write, rename or replace.

As sshd judges the folders around a user's keys: each folder on the way belongs to root or to this
user, and others cannot write there, unless they can change their own files only (the sticky bit).
Then nobody else can put a symbolic link or another folder into the way, neither now nor later.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_OTHERS: Final = 0o077
_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS: Final = 40
"""As many as Linux follows."""


class FolderError(OSError):
    """The workers cannot share; the message says why."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.errno = cause.errno if cause else None


def private_folder(path: Path, *, make: bool = False, make_parents: bool = False) -> Path:
    """Where the folder `path` really is, with no link on the way; made if asked for.

    Raises:
        FolderError: it cannot be made, or others could get at it.
    """
    try:
        return _walked(path.absolute(), make=make, make_parents=make_parents)
    except FolderError:
        raise
    except OSError as error:
        message = f"{path} cannot be {'made' if make else 'used'} ({error.strerror})"
        raise FolderError(message, error) from error


def check_private(found: os.stat_result, path: Path) -> None:
    """Check what was `found` at `path`.

    Raises:
        FolderError: it is no folder of this user, or others can get at it.
    """
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        message = f"{path} is not a folder of this user"
        raise FolderError(message)
    if found.st_mode & _OTHERS:
        message = f"{path} can be read or written by others"
        raise FolderError(message)


def make_private(path: Path | str, at: int | None = None) -> None:
    """Make the folder `path` (below the open folder `at`), of mode 0700 under any umask.

    One that is there already stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path, 0o700, dir_fd=at)
    except FileExistsError:
        return
    with suppress(OSError):  # it can only lack bits
        os.chmod(path, 0o700, dir_fd=at)


def open_private(path: Path | str, flags: int) -> int:
    """Open a file, no link, that only this user can read or write, under any umask.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with suppress(OSError):  # it can only lack bits
        os.fchmod(descriptor, 0o600)
    return descriptor


def _walked(path: Path, *, make: bool, make_parents: bool) -> Path:
    """From the root on, so that what was checked cannot change any more."""
    here, links = Path(path.anchor), 0
    ahead = [*reversed(path.parts[1:])]
    _check_parent(here.lstat(), here)
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = here.parent
            continue
        below = here / name
        try:
            found = below.lstat()
        except FileNotFoundError:
            if not (make_parents or (make and not ahead)):
                raise
            make_private(below)
            found = below.lstat()
        if ahead and stat.S_ISLNK(found.st_mode):
            _check_owner(found, below)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = below.readlink()
            ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            here = Path(target.anchor) if target.is_absolute() else here
            continue
        if ahead:
            _check_parent(found, below)
        here = below
    check_private(here.lstat(), here)
    return here


def _check_parent(found: os.stat_result, path: Path) -> None:
    _check_owner(found, path)
    if found.st_mode & _WRITABLE and not found.st_mode & stat.S_ISVTX:
        message = f"others can write in {path}, and so replace what is below it (chmod go-w or +t)"
        raise FolderError(message)


def _check_owner(found: os.stat_result, path: Path) -> None:
    # Who has the root of all can replace everything anyway: in a user namespace it may be nobody.
    if found.st_uid not in {0, os.geteuid(), Path("/").stat().st_uid}:
        message = f"{path} belongs to user {found.st_uid}, who can replace what is below it"
        raise FolderError(message)
