"""Where the folders of all runs of all services of this user are."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

_OTHERS: Final = 0o077
# A private one is made there.
_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")  # nosec B108 # noqa: S108
_MAX_BASE: Final = 45
"""Bytes: 103 are a socket's path, of which `/` and 35 name a run and `/` and 21 the socket."""
_ROOM: Final = 1 << 16
"""Bytes, about the size of a snapshot: a place with less is as good as full."""


class FolderError(OSError):
    """The workers cannot share; the message says why."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.errno = cause.errno if cause else None


def base_folder(given: str | None, runtime: str | None, run: str | None = None) -> Path:
    """The folder of this user, made if need be, that nobody else can read or write.

    `given` is the user's choice, `runtime` the system's for such files. Of several places it is
    the first one with room, unless workers of `run` are at one of them: who comes later goes there.

    Raises:
        FolderError: there is none, or others could get at it.
    """
    if run and (theirs := bases_of(run, given, runtime)):
        return theirs[0]
    without_room: list[Path] = []
    errors: list[FolderError] = []
    for base in _bases(given, runtime):
        try:
            _make(base, parents=bool(given))
        except FolderError as error:
            errors.append(error)
            continue
        if _has_room(base):
            return base
        without_room.append(base)
    if without_room:
        return without_room[0]  # it may get room; until then the workers say what they lack
    raise FolderError("; ".join(map(str, errors)), errors[0])


def bases_of(run: str, given: str | None, runtime: str | None) -> list[Path]:
    """The folders of this user at which there are files of `run`."""
    found = filter(_is_private, _bases(given, runtime))
    return [base for base in found if (base / run).is_dir()]


def _bases(given: str | None, runtime: str | None) -> list[Path]:
    """Where it may be, the best first."""
    if given:
        return [Path(given)]
    temporary = [*_TEMPORARY]
    with suppress(FileNotFoundError):  # none can be written
        temporary.insert(0, tempfile.gettempdir())
    below = (Path(folder) / f"otel-coach-{os.getuid()}" for folder in temporary)
    bases = sorted(below, key=_is_long)
    if runtime:
        bases.insert(0, Path(runtime) / "otel-coach")
    return list(dict.fromkeys(bases))


def _is_long(base: Path) -> bool:
    """Whether a worker's socket below `base` may have too long a path (macOS: `TMPDIR` is long)."""
    return len(os.fsencode(base)) > _MAX_BASE


def _make(base: Path, *, parents: bool) -> None:
    try:
        base.mkdir(mode=0o700, parents=parents, exist_ok=True)
        found = base.lstat()
    except OSError as error:
        message = f"{base} cannot be made ({error.strerror})"
        raise FolderError(message, error) from error
    if not _is_folder_of_this_user(found):
        message = f"{base} is not a folder of this user"
        raise FolderError(message)
    if found.st_mode & _OTHERS:
        message = f"{base} can be read or written by others"
        raise FolderError(message)


def _is_folder_of_this_user(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _is_private(base: Path) -> bool:
    try:
        found = base.lstat()
    except OSError:
        return False
    return _is_folder_of_this_user(found) and not found.st_mode & _OTHERS


def _has_room(base: Path) -> bool:
    probe = base / f"{token_hex(8)}.probe"
    try:
        probe.write_bytes(bytes(_ROOM))
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return True
