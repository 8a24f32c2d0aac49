"""Finds and creates folders that only root and this user can read, write, rename or replace.

The checks are those that sshd makes of the folders above a user's keys: each folder on the path
belongs to root or to this user, and other users cannot write in it, or only change their own files
there (the sticky bit).
Then no other user can put a symbolic link or another folder into the path, neither now nor later.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_GROUP_AND_OTHERS: Final = 0o077
_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH
_MAX_LINKS: Final = 40
"""Symbolic links in one path; Linux has the same limit."""


class SharedDirError(OSError):
    """The workers cannot share a folder; the message says why."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.errno = cause.errno if cause else None


def private_folder(path: Path, *, make: bool = False, make_parents: bool = False) -> Path:
    """Returns the real path of the folder `path`, without symbolic links.

    The last part of `path` must not be a symbolic link. Creates the folder if `make`, and its
    parents too if `make_parents`.

    Raises:
        SharedDirError: the folder cannot be used or created, or other users could access it.
    """
    try:
        return _walked(path.absolute(), make=make, make_parents=make_parents)
    except SharedDirError:
        raise
    except OSError as error:
        message = f"{path} cannot be {'made' if make else 'used'} ({error.strerror})"
        raise SharedDirError(message, error) from error


def check_private(found: os.stat_result, path: Path) -> None:
    """Checks `found`, the status of `path` by `os.lstat` or `os.fstat`.

    Raises:
        SharedDirError: it is not a folder of this user, or other users can access it.
    """
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        message = f"{path} is not a folder of this user"
        raise SharedDirError(message)
    if found.st_mode & _GROUP_AND_OTHERS:
        message = f"{path} can be read or written by others"
        raise SharedDirError(message)


def make_private(path: Path | str, at: int | None = None) -> None:
    """Creates the folder `path` (in the open folder `at`) with mode 0700 under any umask.

    An existing folder is left as it is.

    Raises:
        OSError: the folder cannot be created.
    """
    try:
        os.mkdir(path, 0o700, dir_fd=at)
    except FileExistsError:
        return
    with suppress(OSError):  # on a failure, the umask has left fewer permissions, never more
        os.chmod(path, 0o700, dir_fd=at)


def open_private(path: Path | str, flags: int) -> int:
    """Opens the file `path`, never a symbolic link, with mode 0600 under any umask.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with suppress(OSError):  # as in `make_private`
        os.fchmod(descriptor, 0o600)
    return descriptor


def _walked(path: Path, *, make: bool, make_parents: bool) -> Path:
    """Resolves `path` from the root down, so that no other user can change a checked part."""
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
            if links > _MAX_LINKS:
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
        raise SharedDirError(message)


def _check_owner(found: os.stat_result, path: Path) -> None:
    # The owner of `/` (in a user namespace, perhaps `nobody`) can replace everything anyway.
    if found.st_uid not in {0, os.geteuid(), Path("/").stat().st_uid}:
        message = f"{path} belongs to user {found.st_uid}, who can replace what is below it"
        raise SharedDirError(message)
