"""The private folder that the workers of one service share, and who of them lives.

Each worker has three files: a lock that it holds as long as it lives, a socket at which it is
asked for its figures, and a snapshot of them. A lock is the kernel's: it is gone with its
process, however that one ended, and is not inherited by a fork.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from otel_coach.workers.supervisor import start_time

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from otel_coach.workers.supervisor import Supervisor

_LOCK, _SOCKET, _SNAPSHOT = ".lock", ".sock", ".snapshot"
_OTHERS: Final = 0o077
_LONGEST_SOCKET_PATH: Final = 103
"""Bytes; the shortest limit of sun_path that a system has, without its final zero."""


class FolderError(OSError):
    """The workers cannot share; the message says why, and what to do."""


def base_folder(given: str | None, runtime: str | None) -> Path:
    """The folder of this user, made if need be, that nobody else can read or write.

    `given` is the user's choice, `runtime` the system's for such files.

    Raises:
        FolderError: there is none, or others could get at it.
    """
    if given:
        base = Path(given)
    elif runtime and os.access(runtime, os.W_OK):
        base = Path(runtime) / "otel-coach"
    else:
        base = Path(tempfile.gettempdir()) / f"otel-coach-{os.getuid()}"
    try:
        base.mkdir(mode=0o700, parents=bool(given), exist_ok=True)
        found = base.lstat()
    except OSError as error:
        message = f"{base} cannot be made ({error.strerror})"
        raise FolderError(message) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        message = f"{base} is not a folder of this user"
        raise FolderError(message)
    if found.st_mode & _OTHERS:
        message = f"{base} can be read or written by others"
        raise FolderError(message)
    return base


class Folder:
    """The files of one run of a service, seen by one of its workers."""

    def __init__(self, base: Path, supervisor: Supervisor) -> None:
        """Take part.

        Raises:
            FolderError: the folder cannot be written.
        """
        self.path = base / supervisor.key
        self.me = f"{os.getpid()}-{token_hex(4)}"
        self._locks: dict[Path, int] = {}
        """Open files by the lock that this process holds on them."""
        try:
            _sweep(base)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self._sockets = _short(self.path)
            # Locked before it has its name: nobody shall take it for a dead worker's.
            unnamed = self.path / f"{self.me}.new"
            self.take(unnamed)
            unnamed.rename(self._lock(self.me))
        except OSError as error:
            message = f"{self.path} cannot be written ({error.strerror})"
            raise FolderError(message) from error
        if len(os.fsencode(self.socket(self.me))) > _LONGEST_SOCKET_PATH:
            message = f"{base} is too long a path for a socket"
            raise FolderError(message)

    def socket(self, worker: str) -> Path:
        """Where `worker` is asked for its figures."""
        return self._sockets / f"{worker}{_SOCKET}"

    def snapshot(self, worker: str) -> Path:
        """Where its figures are."""
        return self.path / f"{worker}{_SNAPSHOT}"

    def workers(self) -> Iterator[tuple[str, bool]]:
        """All of whom there are files, and whether they live."""
        for path in sorted(self.path.glob(f"*{_LOCK}")):
            worker = path.name.removesuffix(_LOCK)
            yield worker, worker == self.me or _is_held(path)

    def exclusive(self, name: str) -> bool:
        """Whether this worker has, or gets now, the task `name`, which only one of them has."""
        path = self.path / f"{name}.task"
        return path in self._locks or self.take(path)

    def take(self, path: Path) -> bool:
        """Lock `path` for as long as this process lives, or until `release`."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._locks[path] = descriptor
        return True

    @contextmanager
    def holding(self, name: str) -> Generator[bool]:
        """Have a task for a moment; False where another one has it."""
        path = self.path / f"{name}.task"
        if not self.take(path):
            yield False
            return
        try:
            yield True
        finally:
            os.close(self._locks.pop(path))

    def write(self, path: Path, content: bytes) -> None:
        """Replace `path` as a whole: who reads it sees the old content or the new one."""
        unfinished = path.with_name(f"{path.name}.{self.me}.new")
        with open(unfinished, "wb", opener=_private) as file:
            file.write(content)
        unfinished.replace(path)

    def touch(self) -> None:
        """Make all files look new: systems sweep old ones from their temporary folders."""
        for path in (self.path.parent, self.path, *self.path.iterdir()):
            with suppress(OSError):
                os.utime(path)

    def forget(self, worker: str) -> None:
        """Remove the files of a dead worker; its lock last, by which it is found."""
        for path in (self.socket(worker), self.snapshot(worker), self._lock(worker)):
            path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove all."""
        with suppress(OSError):
            shutil.rmtree(self.path)

    def _lock(self, worker: str) -> Path:
        return self.path / f"{worker}{_LOCK}"


def remove_run(base: Path, supervisor: Supervisor) -> None:
    """Remove the files of a run whose supervisor ends, unless a worker of it lives on."""
    _remove(base / supervisor.key)


def _sweep(base: Path) -> None:
    """Remove what crashed runs left behind."""
    for path in base.iterdir():
        pid, _, rest = path.name.partition("-")
        started = rest.partition("-")[0]
        if pid.isdigit() and start_time(int(pid)) != started:
            _remove(path)


def _remove(path: Path) -> None:
    if any(_is_held(lock) for lock in path.glob(f"*{_LOCK}")):
        return
    with suppress(OSError):  # another one may be at it
        shutil.rmtree(path)


def _is_held(path: Path) -> bool:
    """Whether another process holds the lock on `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _short(folder: Path) -> Path:
    """A short path of `folder`, where the system has one: a socket's path must not be long."""
    by_descriptor = Path("/proc/self/fd")
    if not by_descriptor.exists():
        return folder
    return by_descriptor / str(os.open(folder, os.O_RDONLY | os.O_CLOEXEC))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
