"""The private folder that the workers of one service share, and who of them lives.

Each worker has three files: a lock that it holds as long as it lives, a socket at which it is
asked for its figures, and a snapshot of them. A lock is the kernel's: it is gone with its
process, however that one ended, and is not inherited by a fork.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from otel_coach.workers.base_folder import FolderError
from otel_coach.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_LOCK, _SOCKET, _SNAPSHOT, _UNFINISHED = ".lock", ".sock", ".snapshot", ".new"
_LONGEST_SOCKET_PATH: Final = 103
"""Bytes; the shortest limit of sun_path that a system has, without its final zero."""


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
        self._sockets = self.path
        # Locked before it has its name: nobody shall take it for a dead worker's.
        unnamed = self.path / f"{self.me}{_UNFINISHED}"
        try:
            _sweep(base)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self._sockets = _short(self.path)
            self.take(unnamed)
            unnamed.rename(self._lock(self.me))
            if len(os.fsencode(self.socket(self.me))) > _LONGEST_SOCKET_PATH:
                message = f"{base} is too long a path for a socket"
                raise FolderError(message)
        except OSError as error:
            with suppress(OSError):
                unnamed.unlink(missing_ok=True)
            self.withdraw()
            if isinstance(error, FolderError):
                raise
            message = f"{self.path} cannot be written ({error.strerror})"
            raise FolderError(message, error) from error

    def socket(self, worker: str) -> Path:
        """Where `worker` is asked for its figures."""
        return self._sockets / f"{worker}{_SOCKET}"

    def snapshot(self, worker: str) -> Path:
        """Where its figures are."""
        return self.path / f"{worker}{_SNAPSHOT}"

    def workers(self) -> Iterator[tuple[str, bool]]:
        """All of whom there are files, and whether they live.

        Raises:
            OSError: nobody can tell.
        """
        for path in sorted(_locks(self.path)):
            worker = path.name.removesuffix(_LOCK)
            yield worker, self.lives(worker)

    def lives(self, worker: str) -> bool:
        """Whether `worker` lives, or nobody can tell."""
        return worker == self.me or _is_held(self._lock(worker))

    def exclusive(self, name: str) -> bool:
        """Whether this worker has, or gets now, the task `name`, which only one of them has.

        Raises:
            OSError: nobody can tell.
        """
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
        unfinished = path.with_name(f"{path.name}.{self.me}{_UNFINISHED}")
        try:
            with open(unfinished, "wb", opener=_private) as file:
                file.write(content)
            unfinished.replace(path)
        except OSError:
            with suppress(OSError):  # what is unfinished takes space that may be all there is
                unfinished.unlink(missing_ok=True)
            raise

    def touch(self) -> None:
        """Make all files look new: systems sweep old ones from their temporary folders."""
        for path in (self.path.parent, self.path, *self.path.iterdir()):
            with suppress(OSError):
                os.utime(path)

    def forget(self, worker: str) -> None:
        """Remove the files of a dead worker; its lock last, by which it is found."""
        for path in (self.socket(worker), self.snapshot(worker), self._lock(worker)):
            path.unlink(missing_ok=True)

    def withdraw(self) -> None:
        """Take part no more, as if this worker had never come; all others stay."""
        with suppress(OSError):
            self.forget(self.me)
        self.release()

    def release(self) -> None:
        """Hold nothing any more, as if this worker had died: its figures are for the others."""
        with suppress(OSError):
            self.socket(self.me).unlink(missing_ok=True)
        while self._locks:
            os.close(self._locks.popitem()[1])
        if self._sockets != self.path:
            os.close(int(self._sockets.name))
            self._sockets = self.path

    def leave(self) -> None:
        """Remove all."""
        with suppress(OSError):
            shutil.rmtree(self.path)

    def _lock(self, worker: str) -> Path:
        return self.path / f"{worker}{_LOCK}"


def remove_run(path: Path) -> None:
    """Remove the files of a run whose supervisor has ended or ends, unless a worker lives on."""
    with suppress(OSError):  # another one may be at it, or nobody can tell who lives
        if not any(_is_held(lock) for lock in _locks(path)):
            shutil.rmtree(path)


def _sweep(base: Path) -> None:
    """Remove what crashed runs left behind."""
    for path in base.iterdir():
        pid, _, rest = path.name.partition("-")
        started = rest.partition("-")[0]
        if pid.isdigit() and not Supervisor(int(pid), started).lives:
            remove_run(path)


def _locks(folder: Path) -> Iterator[Path]:
    # Not by a pattern: some versions of Python find nothing where they cannot look.
    return (path for path in folder.iterdir() if path.suffix == _LOCK)


def _is_held(path: Path) -> bool:
    """Whether another process holds the lock on `path`, or nobody can tell."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nobody may be buried by mistake
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
