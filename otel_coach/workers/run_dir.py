"""The private folder that the workers of one service share, and which of them are alive.

Each worker has three files: a lock that it holds as long as it lives, a socket at which it is
asked for new metrics, and a snapshot of its metrics. The kernel releases a lock when its process
ends, however it ends; a forked child does not inherit it.

Only root and this user can put another folder in its place (`private_paths`). If the system has
paths for open descriptors (/proc/self/fd), all files are reached through the folder's descriptor,
and so belong to this very folder whatever happens to its path.
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

from otel_coach.workers.private_paths import check_private, make_private, open_private
from otel_coach.workers.shared_dir import SharedDirError, is_spare, siblings
from otel_coach.workers.supervisor import RUN_KEY, Supervisor, exists, system_id

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_LOCK, _SOCKET, _SNAPSHOT, _UNFINISHED = ".lock", ".sock", ".snapshot", ".new"
_MAX_SOCKET_PATH: Final = 103
"""Bytes; the smallest limit of sun_path on any system, without the final zero byte."""
_MAX_AGE: Final = 3600.0
"""Seconds without a touch after which a run of another container, machine or boot is removed."""
_FILE_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | _FILE_FLAGS
"""Opens a folder itself, never a symbolic link to one."""


class RunDir:
    """The files of one run of a service, as one of its workers uses them."""

    def __init__(self, base: Path, supervisor: Supervisor) -> None:
        """Joins the run: creates its folder if needed, and takes this worker's lock.

        Raises:
            SharedDirError: the folder cannot be written, is not private, has too long a path, or is
                on a file system without locks.
            OSError: no descriptor is left to identify the boot and the container.
        """
        self.path = base / supervisor.key
        """The folder's path, for messages; files are reached by `file`."""
        self.me = f"{os.getpid()}-{token_hex(4)}"
        self._locks: dict[str, int] = {}
        """Descriptors of the files that this process has locked, by file name."""
        self.is_removed = False
        """Whether this process has removed the folder."""
        self._here = self.path
        # Locked before the file gets its final name: an unlocked lock file means an ended worker.
        unnamed = self.path / f"{self.me}{_UNFINISHED}"
        try:
            _sweep(base)
            self._here = _short(self.path, _open_private_folder(base, supervisor.key))
            if not self.take(unnamed):
                message = f"{self.path} is on a file system without file locks"
                raise SharedDirError(message)
            self.file(unnamed.name).rename(self._lock(self.me))
            if len(os.fsencode(self.socket(self.me))) > _MAX_SOCKET_PATH:
                message = f"{base} is too long a path for a socket"
                raise SharedDirError(message)
        except OSError as error:
            with suppress(OSError):
                self.file(unnamed.name).unlink(missing_ok=True)
            self.withdraw()
            if isinstance(error, SharedDirError):
                raise
            message = f"{self.path} cannot be written ({error.strerror})"
            raise SharedDirError(message, error) from error

    def file(self, name: str) -> Path:
        """Returns the path by which this process reaches the file `name`, until `release`."""
        return self._here / name

    def socket(self, worker: str) -> Path:
        """Returns the path of the socket at which `worker` is asked for new metrics."""
        return self.file(f"{worker}{_SOCKET}")

    def snapshot(self, worker: str) -> Path:
        """Returns the path of the snapshot of `worker`."""
        return self.file(f"{worker}{_SNAPSHOT}")

    def workers(self) -> Iterator[tuple[str, bool]]:
        """Yields all workers that have files, and whether each is alive.

        Raises:
            OSError: the folder cannot be read.
        """
        for path in sorted(self._here.iterdir()):
            worker = path.stem
            if path.suffix == _LOCK:
                yield worker, self.lives(worker)
            elif path.suffix == _UNFINISHED and not Path(worker).suffix and _is_gone(worker):
                yield worker, False  # killed before its lock got its final name

    def lives(self, worker: str) -> bool:
        """Whether `worker` is alive; True if that cannot be determined."""
        return worker == self.me or _is_held(self._lock(worker))

    def take_task(self, name: str) -> bool:
        """Takes the task `name` unless another worker has it; returns whether this worker has it.

        Raises:
            OSError: that cannot be determined.
        """
        path = self.file(f"{name}.task")
        return path.name in self._locks or self.take(path)

    def is_first(self, event: str) -> bool:
        """Creates the file of `event`; returns whether it was not there yet.

        Raises:
            OSError: it cannot be created.
        """
        try:
            os.close(open_private(self.file(f"{event}.once"), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def take(self, path: Path) -> bool:
        """Locks the file `path` until `release` or the end of the process.

        Only the name of `path` is used. Returns False if the file cannot be locked, usually because
        another process has locked it.
        """
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
        """Takes the task `name` for the `with` block; yields False if another worker has it."""
        path = self.file(f"{name}.task")
        if not self.take(path):
            yield False
            return
        try:
            yield True
        finally:
            os.close(self._locks.pop(path.name))

    def write(self, path: Path, content: bytes) -> None:
        """Replaces the content of the file called `path.name`; readers see the old or the new."""
        unfinished = self.file(f"{path.name}.{self.me}{_UNFINISHED}")
        try:
            try:
                file = open(unfinished, "xb", opener=open_private)  # noqa: SIM115 - closed below
            except FileExistsError:  # left by an earlier failure, and could not be removed then
                unfinished.unlink()
                file = open(unfinished, "xb", opener=open_private)  # noqa: SIM115
            with file:
                file.write(content)
            unfinished.replace(self.file(path.name))
        except OSError:
            with suppress(OSError):  # the unfinished file may take the last free space
                unfinished.unlink(missing_ok=True)
            raise

    def touch(self) -> None:
        """Updates the times of all files: systems remove old files from temporary folders."""
        for path in (self._here / "..", self._here, *self._here.iterdir()):
            with suppress(OSError):
                os.utime(path)

    def forget(self, worker: str) -> None:
        """Removes the files of a worker that has ended, unfinished ones included.

        The lock is removed last, because `workers` finds a worker by its lock.
        """
        unfinished = f".{worker}{_UNFINISHED}"
        for path in self._here.iterdir():
            is_of_worker = path.name.startswith(f"{worker}.") or path.name.endswith(unfinished)
            if is_of_worker and path.suffix != _LOCK:
                path.unlink(missing_ok=True)
        self._lock(worker).unlink(missing_ok=True)

    def withdraw(self) -> None:
        """Leaves the run as if this worker had never joined; the other workers' files stay."""
        with suppress(OSError):
            self.forget(self.me)
        self.release()

    def release(self) -> None:
        """Releases all locks; the other workers then treat this one as a worker that has ended."""
        with suppress(OSError):
            self.socket(self.me).unlink(missing_ok=True)
        while self._locks:
            os.close(self._locks.popitem()[1])
        if self._here != self.path:
            descriptor, self._here = int(self._here.name), self.path
            os.close(descriptor)

    def remove(self) -> None:
        """Removes the folder of the run."""
        self.is_removed = True
        with suppress(OSError), _open_folder(self._here / "..") as base:
            shutil.rmtree(self.path.name, dir_fd=base)
        _remove_spare(self.path.parent)

    def _lock(self, worker: str) -> Path:
        return self.file(f"{worker}{_LOCK}")


def is_first_of_run(base: Path, supervisor: Supervisor, event: str) -> bool:
    """Creates the file of `event` in the run of `supervisor`; returns whether it was not there yet.

    For workers that share nothing else, and so do not join.

    Raises:
        OSError: it cannot be created.
    """
    _sweep(base)
    folder = _open_private_folder(base, supervisor.key)
    try:
        os.close(os.open(f"{event}.once", _NEW, mode=0o600, dir_fd=folder))
    except FileExistsError:
        return False
    finally:
        os.close(folder)
    return True


def remove_run(path: Path) -> None:
    """Removes the files of a run whose supervisor has ended or is ending, unless a worker lives."""
    _remove_unused(path)
    _remove_spare(path.parent)


def _remove_unused(path: Path) -> None:
    # This fails if another process removes the folder, too, or if the folder cannot be read.
    with suppress(OSError), _open_folder(path.parent) as base:
        locks = [found for found in path.iterdir() if found.suffix == _LOCK]
        if not any(map(_is_held, locks)):
            shutil.rmtree(path.name, dir_fd=base)


def _remove_spare(base: Path) -> None:
    """Removes a base folder that served one run only, once it is empty."""
    if is_spare(base):
        with suppress(OSError):
            base.rmdir()


def _sweep(base: Path) -> None:
    """Removes the files that crashed runs left behind."""
    _sweep_one(base)
    if is_spare(base):
        for other in siblings(base):
            _sweep_one(other)
            if _is_old(other):
                _remove_spare(other)


def _sweep_one(base: Path) -> None:
    this_system = system_id()
    for path in base.iterdir():
        if (run := RUN_KEY.fullmatch(path.name)) is None:
            continue  # something else of the user's, who has chosen the folder
        pid, started, its_system = run.groups()
        # Pids of another container, machine or boot mean nothing here: the run's age has to decide.
        is_gone = (
            not Supervisor(int(pid), started).lives if its_system == this_system else _is_old(path)
        )
        if is_gone:
            _remove_unused(path)


def _is_old(path: Path) -> bool:
    """Whether no worker has touched `path` for a long time."""
    try:
        # By the wall clock, the only clock of file times and the only one that machines share.
        return time() - path.lstat().st_mtime > _MAX_AGE
    except OSError:
        return False


def _is_gone(worker: str) -> bool:
    pid = worker.partition("-")[0]
    return pid.isdigit() and not exists(int(pid))


def _is_held(path: Path) -> bool:
    """Whether another process holds the lock on `path`; True if that cannot be determined."""
    try:
        descriptor = os.open(path, os.O_RDWR | _FILE_FLAGS)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a worker that may be alive must not be taken for an ended one
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _open_folder(path: Path) -> Generator[int]:
    """Opens the folder `path`; the descriptor means this folder even if `path` is replaced."""
    descriptor = os.open(path, _FOLDER_FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_private_folder(base: Path, name: str) -> int:
    """Returns a descriptor of the private folder `name` in `base`; creates it if needed."""
    with _open_folder(base) as at:
        check_private(os.fstat(at), base)
        make_private(name, at)
        descriptor = os.open(name, _FOLDER_FLAGS, dir_fd=at)
    try:
        check_private(os.fstat(descriptor), base / name)
    except SharedDirError:
        os.close(descriptor)
        raise
    return descriptor


def _short(folder: Path, descriptor: int) -> Path:
    """Returns the path of the open `descriptor` of `folder`.

    On a system without such paths, closes the descriptor and returns `folder`. The path of a
    descriptor means this folder whatever happens to its name, and it is short, as the path of a
    socket must be.
    """
    by_descriptor = Path("/proc/self/fd")
    if by_descriptor.exists():
        return by_descriptor / str(descriptor)
    os.close(descriptor)
    return folder
