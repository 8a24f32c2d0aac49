"""The private folder that the workers of one service share, and who of them lives.

Each worker has three files: a lock that it holds as long as it lives, a socket at which it is
asked for its figures, and a snapshot of them. A lock is the kernel's: it is gone with its
process, however that one ended, and is not inherited by a fork.

Nobody but root and this user can put another folder in its place (`parents`). Where the system has
paths of open descriptors, all is done below the folder's own one, and so in this very folder
whatever becomes of its path.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import time
from typing import TYPE_CHECKING, Final

from otel_coach.workers.base_folder import FolderError, is_spare, siblings
from otel_coach.workers.parents import check_private, make_private, open_private
from otel_coach.workers.supervisor import Supervisor, here, is_there

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_LOCK, _SOCKET, _SNAPSHOT, _UNFINISHED = ".lock", ".sock", ".snapshot", ".new"
_LONGEST_SOCKET_PATH: Final = 103
"""Bytes; the shortest limit of sun_path that a system has, without its final zero."""
_LONG_AGO: Final = 3600.0
"""Seconds since the last touch of a run of which this process cannot see the supervisor."""
_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | _FILE
"""Opens a folder itself, and no link to one."""


class Folder:
    """The files of one run of a service, seen by one of its workers."""

    def __init__(self, base: Path, supervisor: Supervisor) -> None:
        """Take part.

        Raises:
            FolderError: the folder cannot be written.
        """
        self.path = base / supervisor.key
        """What to call it to a person; files are reached by `file`."""
        self.me = f"{os.getpid()}-{token_hex(4)}"
        self._locks: dict[str, int] = {}
        """Open files by the name of the lock that this process holds on them."""
        self._here = self.path
        # Locked before it has its name: nobody shall take it for a dead worker's.
        unnamed = self.path / f"{self.me}{_UNFINISHED}"
        try:
            _sweep(base)
            self._here = _short(self.path, _opened(base, supervisor.key))
            self.take(unnamed)
            self.file(unnamed.name).rename(self._lock(self.me))
            if len(os.fsencode(self.socket(self.me))) > _LONGEST_SOCKET_PATH:
                message = f"{base} is too long a path for a socket"
                raise FolderError(message)
        except OSError as error:
            with suppress(OSError):
                self.file(unnamed.name).unlink(missing_ok=True)
            self.withdraw()
            if isinstance(error, FolderError):
                raise
            message = f"{self.path} cannot be written ({error.strerror})"
            raise FolderError(message, error) from error

    def file(self, name: str) -> Path:
        """Where this process reaches the file of that name, until `release`."""
        return self._here / name

    def socket(self, worker: str) -> Path:
        """Where `worker` is asked for its figures."""
        return self.file(f"{worker}{_SOCKET}")

    def snapshot(self, worker: str) -> Path:
        """Where its figures are."""
        return self.file(f"{worker}{_SNAPSHOT}")

    def workers(self) -> Iterator[tuple[str, bool]]:
        """All of whom there are files, and whether they live.

        Raises:
            OSError: nobody can tell.
        """
        for path in sorted(self._here.iterdir()):
            worker = path.stem
            if path.suffix == _LOCK:
                yield worker, self.lives(worker)
            elif path.suffix == _UNFINISHED and not Path(worker).suffix and _is_gone(worker):
                yield worker, False  # it was killed before its lock had its name

    def lives(self, worker: str) -> bool:
        """Whether `worker` lives, or nobody can tell."""
        return worker == self.me or _is_held(self._lock(worker))

    def exclusive(self, name: str) -> bool:
        """Whether this worker has, or gets now, the task `name`, which only one of them has.

        Raises:
            OSError: nobody can tell.
        """
        path = self.file(f"{name}.task")
        return path.name in self._locks or self.take(path)

    def take(self, path: Path) -> bool:
        """Lock the file of the name of `path` while this process lives, or until `release`."""
        descriptor = open_private(self.file(path.name), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._locks[path.name] = descriptor
        return True

    @contextmanager
    def holding(self, name: str) -> Generator[bool]:
        """Have a task for a moment; False where another one has it."""
        path = self.file(f"{name}.task")
        if not self.take(path):
            yield False
            return
        try:
            yield True
        finally:
            os.close(self._locks.pop(path.name))

    def write(self, path: Path, content: bytes) -> None:
        """Replace the file of the name of `path`: who reads it sees the old content or the new."""
        unfinished = self.file(f"{path.name}.{self.me}{_UNFINISHED}")
        try:
            try:
                file = open(unfinished, "xb", opener=open_private)  # noqa: SIM115 - closed below
            except FileExistsError:  # of a time when it could not be removed
                unfinished.unlink()
                file = open(unfinished, "xb", opener=open_private)  # noqa: SIM115
            with file:
                file.write(content)
            unfinished.replace(self.file(path.name))
        except OSError:
            with suppress(OSError):  # what is unfinished takes space that may be all there is
                unfinished.unlink(missing_ok=True)
            raise

    def touch(self) -> None:
        """Make all files look new: systems sweep old ones from their temporary folders."""
        for path in (self._here / "..", self._here, *self._here.iterdir()):
            with suppress(OSError):
                os.utime(path)

    def forget(self, worker: str) -> None:
        """Remove the files of a dead worker, also what it has not finished.

        Its lock is the last, because by that it is found.
        """
        unfinished = f".{worker}{_UNFINISHED}"
        for path in self._here.iterdir():
            is_its = path.name.startswith(f"{worker}.") or path.name.endswith(unfinished)
            if is_its and path.suffix != _LOCK:
                path.unlink(missing_ok=True)
        self._lock(worker).unlink(missing_ok=True)

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
        if self._here != self.path:
            descriptor, self._here = int(self._here.name), self.path
            os.close(descriptor)

    def leave(self) -> None:
        """Remove all."""
        with suppress(OSError), _open_folder(self._here / "..") as base:
            shutil.rmtree(self.path.name, dir_fd=base)
        _remove_spare(self.path.parent)

    def _lock(self, worker: str) -> Path:
        return self.file(f"{worker}{_LOCK}")


def remove_run(path: Path) -> None:
    """Remove the files of a run whose supervisor has ended or ends, unless a worker lives on."""
    _remove_dead(path)
    _remove_spare(path.parent)


def _remove_dead(path: Path) -> None:
    # Another one may be at it, or nobody can tell who lives.
    with suppress(OSError), _open_folder(path.parent) as base:
        locks = [found for found in path.iterdir() if found.suffix == _LOCK]
        if not any(map(_is_held, locks)):
            shutil.rmtree(path.name, dir_fd=base)


def _remove_spare(base: Path) -> None:
    """Remove a folder that one run had for itself, and has no more."""
    if is_spare(base):
        with suppress(OSError):
            base.rmdir()


def _sweep(base: Path) -> None:
    """Remove what crashed runs left behind."""
    _sweep_one(base)
    if is_spare(base):
        for other in siblings(base):
            _sweep_one(other)
            if _is_old(other):
                _remove_spare(other)


def _sweep_one(base: Path) -> None:
    we_are = here()
    for path in base.iterdir():
        pid, _, rest = path.name.partition("-")
        started, _, they_are = rest.partition("-")
        if not pid.isdigit():
            continue
        # Of another container or machine nobody can tell here which pids are whose.
        is_gone = not Supervisor(int(pid), started).lives if they_are == we_are else _is_old(path)
        if is_gone:
            _remove_dead(path)


def _is_old(path: Path) -> bool:
    """Whether no worker has touched `path` for long."""
    try:
        # Both by the wall clock: there is no other one for files, nor among machines.
        return time() - path.lstat().st_mtime > _LONG_AGO
    except OSError:
        return False


def _is_gone(worker: str) -> bool:
    pid = worker.partition("-")[0]
    return pid.isdigit() and not is_there(int(pid))


def _is_held(path: Path) -> bool:
    """Whether another process holds the lock on `path`, or nobody can tell."""
    try:
        descriptor = os.open(path, os.O_RDWR | _FILE)
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


@contextmanager
def _open_folder(path: Path) -> Generator[int]:
    """The folder itself: what takes its name meanwhile is another one."""
    descriptor = os.open(path, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(base: Path, name: str) -> int:
    """A descriptor of the folder of that name, made if need be, which is this user's alone."""
    with _open_folder(base) as at:
        check_private(os.fstat(at), base)
        make_private(name, at)
        descriptor = os.open(name, _FOLDER, dir_fd=at)
    try:
        check_private(os.fstat(descriptor), base / name)
    except FolderError:
        os.close(descriptor)
        raise
    return descriptor


def _short(folder: Path, descriptor: int) -> Path:
    """The path of its open `descriptor` where the system has such, else its own.

    The first is this folder whatever becomes of the second, and short, as a socket's must be.
    """
    by_descriptor = Path("/proc/self/fd")
    if by_descriptor.exists():
        return by_descriptor / str(descriptor)
    os.close(descriptor)
    return folder
