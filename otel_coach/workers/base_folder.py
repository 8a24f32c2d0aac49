"""Where the folders of all runs of all services of this user are."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from otel_coach.workers.parents import FolderError, open_private, private_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FolderError", "base_folder", "bases_of", "is_spare", "siblings"]

# A private one is made there.
_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")  # nosec B108 # noqa: S108
_MAX_BASE: Final = 45
"""Bytes: 103 are a socket's path, of which `/` and 35 name a run and `/` and 21 the socket."""
_ROOM: Final = 1 << 16
"""Bytes, about the size of a snapshot: a place with less is as good as full."""
_NAME: Final = "otel-coach"


def base_folder(
    given: str | None, runtime: str | None, run: str | None = None, secret: str | None = None
) -> Path:
    """The folder of this user, made if need be, that nobody else can read, write or replace.

    `given` is the user's choice, `runtime` the system's for such files. Of several places it is
    the first one with room, unless workers of `run` are at one of them: who comes later goes there.
    Where a neighbour has taken all our names, it has one that only who knows `secret` can tell.

    Raises:
        FolderError: there is none, or others could get at it.
    """
    secrets = () if secret is None else (secret,)
    if run and (theirs := bases_of(run, given, runtime, secrets)):
        return theirs[0]
    errors: list[FolderError] = []
    for bases in (_bases(given, runtime), [] if given else _spare(secrets)):
        without_room: list[Path] = []
        for base in bases:
            try:
                found = private_folder(base, make=True, make_parents=bool(given))
            except FolderError as error:
                errors.append(error)
                continue
            if _has_room(found):
                return found
            without_room.append(found)
        if without_room:
            return without_room[0]  # it may get room; until then the workers say what they lack
    raise FolderError("; ".join(map(str, errors)), errors[0])


def bases_of(
    run: str, given: str | None, runtime: str | None, secrets: Iterable[str] = ()
) -> list[Path]:
    """The folders of this user at which there are files of `run`, whose workers know a secret."""
    found: list[Path] = []
    for base in _bases(given, runtime) if given else _bases(given, runtime) + _spare(secrets):
        with suppress(FolderError):
            found.append(private_folder(base))
    return [base for base in found if (base / run).is_dir()]


def is_spare(base: Path) -> bool:
    """Whether `base` is one that a run has for itself, because all our other names were taken."""
    return base.name.startswith(f"{_NAME}-{os.getuid()}-")


def siblings(base: Path) -> list[Path]:
    """Other spare ones of this user beside `base`."""
    found: list[Path] = []
    with suppress(OSError):
        for path in base.parent.iterdir():
            if path != base and is_spare(path):
                with suppress(FolderError):
                    found.append(private_folder(path))
    return found


def _bases(given: str | None, runtime: str | None) -> list[Path]:
    """Where it may be, the best first."""
    if given:
        return [Path(given)]
    bases = _below_temporary(f"{_NAME}-{os.getuid()}")
    if runtime:
        bases.insert(0, Path(runtime) / _NAME)
    return list(dict.fromkeys(bases))


def _spare(secrets: Iterable[str]) -> list[Path]:
    """Where it may be if others have taken those names."""
    return [base for one in secrets for base in _below_temporary(f"{_NAME}-{os.getuid()}-{one}")]


def _below_temporary(name: str) -> list[Path]:
    folders = [*_TEMPORARY]
    with suppress(FileNotFoundError):  # none can be written
        folders.insert(0, tempfile.gettempdir())
    bases = dict.fromkeys(Path(folder) / name for folder in folders)
    return sorted(bases, key=_is_long)


def _is_long(base: Path) -> bool:
    """Whether a worker's socket below `base` may have too long a path (macOS: `TMPDIR` is long)."""
    return len(os.fsencode(base)) > _MAX_BASE


def _has_room(base: Path) -> bool:
    probe = base / f"{token_hex(8)}.probe"
    try:
        with open(probe, "xb", opener=open_private) as file:
            file.write(bytes(_ROOM))
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return True
