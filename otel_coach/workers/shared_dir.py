"""Finds the folder in which all services of this user keep the files of their runs."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from otel_coach.workers.private_paths import SharedDirError, open_private, private_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SharedDirError", "base_folder", "bases_of", "is_spare", "siblings"]

# Folders for temporary files, in which a private folder is created.
_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")  # nosec B108 # noqa: S108
_MAX_BASE: Final = 45
"""Bytes: a socket's path may have 103; `/` and the run take 36 of them, `/` and the socket 22."""
_MIN_SPACE: Final = 1 << 16
"""Bytes, about the size of a snapshot; a file system with less free space counts as full."""
_NAME: Final = "otel-coach"


def base_folder(
    given: str | None, runtime: str | None, run: str | None = None, secret: str | None = None
) -> Path:
    """Returns this user's folder, which no other user can read, write or replace.

    Creates the folder if needed. `given` is the configured folder, `runtime` the system's folder
    for the user's short-lived files. Of several candidates, the first with free space is taken,
    unless other workers of `run` already use one of them: then that one is taken. If another user
    has taken all the usual names, the folder gets a name that cannot be guessed without `secret`.

    Raises:
        SharedDirError: no candidate can be used, or other users could access it.
    """
    secrets = () if secret is None else (secret,)
    if run and (in_use := bases_of(run, given, runtime, secrets)):
        return in_use[0]
    errors: list[SharedDirError] = []
    for bases in (_bases(given, runtime), [] if given else _spare(secrets)):
        full: list[Path] = []
        for base in bases:
            try:
                found = private_folder(base, make=True, make_parents=bool(given))
            except SharedDirError as error:
                errors.append(error)
                continue
            if _has_room(found):
                return found
            full.append(found)
        if full:
            return full[0]  # space may become free; until then the workers log that there is none
    raise SharedDirError("; ".join(map(str, errors)), errors[0])


def bases_of(
    run: str, given: str | None, runtime: str | None, secrets: Iterable[str] = ()
) -> list[Path]:
    """Returns this user's folders with files of `run`, whose workers share one of `secrets`."""
    found: list[Path] = []
    for base in _bases(given, runtime) if given else _bases(given, runtime) + _spare(secrets):
        with suppress(SharedDirError):
            found.append(private_folder(base))
    return [base for base in found if (base / run).is_dir()]


def is_spare(base: Path) -> bool:
    """Whether `base` serves a single run, because other users had taken all the usual names."""
    return base.name.startswith(f"{_NAME}-{os.getuid()}-")


def siblings(base: Path) -> list[Path]:
    """Returns the other folders of this user beside `base` that serve a single run."""
    found: list[Path] = []
    with suppress(OSError):
        for path in base.parent.iterdir():
            if path != base and is_spare(path):
                with suppress(SharedDirError):
                    found.append(private_folder(path))
    return found


def _bases(given: str | None, runtime: str | None) -> list[Path]:
    """Returns the candidates, the best first."""
    if given:
        return [Path(given)]
    bases = _below_temporary(f"{_NAME}-{os.getuid()}")
    if runtime:
        bases.insert(0, Path(runtime) / _NAME)
    return list(dict.fromkeys(bases))


def _spare(secrets: Iterable[str]) -> list[Path]:
    """Returns the candidates to try if other users have taken the usual names."""
    return [
        base for secret in secrets for base in _below_temporary(f"{_NAME}-{os.getuid()}-{secret}")
    ]


def _below_temporary(name: str) -> list[Path]:
    folders = [*_TEMPORARY]
    with suppress(FileNotFoundError):  # no temporary folder is writable
        folders.insert(0, tempfile.gettempdir())
    bases = dict.fromkeys(Path(folder) / name for folder in folders)
    return sorted(bases, key=_is_long)


def _is_long(base: Path) -> bool:
    """Whether `base`, like `TMPDIR` on macOS, may be too long for the path of a socket below it."""
    return len(os.fsencode(base)) > _MAX_BASE


def _has_room(base: Path) -> bool:
    probe = base / f"{token_hex(8)}.probe"
    try:
        with open(probe, "xb", opener=open_private) as file:
            file.write(bytes(_MIN_SPACE))
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return True
