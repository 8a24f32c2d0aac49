"""Finds out whether this process is one of several workers, and which process supervises it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.workers.log_once import NO_DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Callable

_HIDDEN: Final = "hidden"
"""Prefix of `Supervisor.started` if the system hides the start time."""
RUN_KEY: Final = re.compile(r"(\d+)-([^-]+)-([0-9a-f]{8})")
"""The form of `Supervisor.key`."""
_SPAWNED: Final = "--multiprocessing-fork"
"""On the command line of a process that multiprocessing starts."""
_START_TIME: Final = 19
"""The position of `starttime` (field 22) in /proc/PID/stat, counted after the process state (field
3); see proc(5)."""

_OUTSIDE: Final = 0
"""What `os.getppid` returns if the parent is outside of this container."""
_forking = _forked_by = -1
"""The ids of the process that is forking, and of the process that forked this one."""


def _before_fork() -> None:
    global _forking  # noqa: PLW0603 - the only way to pass a value to the forked child
    _forking = os.getpid()


def _after_fork() -> None:
    global _forked_by  # noqa: PLW0603
    _forked_by = _forking


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


class HiddenError(OSError):
    """A process is alive, but the system hides its start time (/proc with `hidepid`)."""


class Supervisor(NamedTuple):
    """The process that starts a service's workers, and replaces those that end."""

    pid: int
    started: str
    """The start time as the kernel reports it; a later process with the same pid has another one.
    If the system hides it, this is a secret that the workers inherit from the process."""

    @property
    def key(self) -> str:
        """A file name that no other supervisor on this machine has or had.

        Raises:
            OSError: no descriptor is left to identify the boot and the container.
        """
        return f"{self.pid}-{self.started}-{system_id()}"

    @property
    def lives(self) -> bool:
        """Whether the process is still running; True if that cannot be determined."""
        try:
            started = start_time(self.pid)
        except OSError:  # HiddenError included
            return True
        if self.started.startswith(_HIDDEN):  # its start time was hidden, and is visible now
            return started is not None
        return started == self.started


def pid_of_supervisor() -> int | None:
    """Returns the process id of this process's supervisor; None if this process serves alone.

    uvicorn, hypercorn and granian start workers by multiprocessing; gunicorn forks them. A process
    that became a daemon serves alone: its parent is no longer the process that forked it.
    """
    if (starter := multiprocessing.parent_process()) is not None and starter.pid is not None:
        return starter.pid
    parent = os.getppid()
    if _SPAWNED in sys.orig_argv:  # not prepared yet: `sitecustomize` is being imported
        return parent
    is_worker = parent == _forked_by or "gunicorn.arbiter" in sys.modules
    return parent if is_worker and parent != _OUTSIDE else None


def supervisor(pid: int) -> Supervisor | None:
    """Returns the supervisor with process id `pid`; None if there is no such process.

    `pid` must be that of this process or of its supervisor.

    Raises:
        OSError: the start time cannot be determined.
    """
    try:
        started = start_time(pid)
    except HiddenError:
        return Supervisor(pid, _HIDDEN + inherited_secret())
    return None if started is None else Supervisor(pid, started)


def inherited_secret() -> str:
    """Returns a secret that workers inherit from their supervisor; no other user can know it."""
    is_started = multiprocessing.parent_process() is not None
    return _secret_by_start() if is_started else _secret_by_fork()


def bequeathed_secrets() -> tuple[str, str]:
    """Returns the `inherited_secret` of this process's workers, for each way of starting them."""
    return _secret_by_start(), _secret_by_fork()


def _secret_by_start() -> str:
    """Returns a digest of multiprocessing's random `authkey`, which all processes it starts get."""
    return _digest(bytes(multiprocessing.current_process().authkey), 12)


def _secret_by_fork() -> str:
    """Returns a digest of the hash seed and an object's address, which a forked child inherits.

    Both are random in each run; an operator may fix one of them (PYTHONHASHSEED).
    """
    return _digest((hash("otel-coach"), id(sys)), 12)


def _digest(value: object, length: int) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:length]


def start_time(pid: int) -> str | None:
    """Returns when process `pid` was started, in the system's format; None if it does not run.

    Raises:
        HiddenError: the process is alive, and the system hides its start time.
        OSError: the start time cannot be read.
    """
    started: str | None = None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if not Path("/proc/self/stat").exists():
            started = _start_time_by_ps(pid)
    except ProcessLookupError:
        return None  # the process ended while its file was read
    except PermissionError:
        pass
    else:
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in {"Z", "X"} else fields[_START_TIME - 1]
    if started is None and exists(pid):
        message = f"the system hides process {pid}"
        raise HiddenError(message)
    return started


def exists(pid: int) -> bool:
    """Whether process `pid` exists, even if it is hidden, another user's, or a zombie."""
    if pid == os.getppid():
        return True  # systems that hide processes may hide them from signals too
    try:
        os.kill(pid, 0)  # on POSIX only: on Windows, 0 is a Ctrl+C event
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _start_time_by_ps(pid: int) -> str | None:
    """Returns the start time as `ps` prints it, for systems without /proc."""
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        message = f"{command[0]} did not answer in {error.timeout} seconds"
        raise TimeoutError(message) from error
    except FileNotFoundError:
        if os.name != "posix":
            raise
        return None
    return "".join(filter(str.isalnum, answer.stdout)) or None


def system_id() -> str:
    """Returns eight hexadecimal digits that identify this boot and this container.

    Process ids repeat across containers that share a folder, and across boots.

    Raises:
        OSError: no descriptor is left to identify them.
    """
    known = [_from_kernel(_boot), _from_kernel(_pid_namespace)]
    if None in known:
        known.append(platform.node())  # a last resort: it may change while the machine runs
    return _digest(known, 8)


def _from_kernel(read: Callable[[], str]) -> str | None:
    try:
        return read()
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise  # other workers may be able to read it, and would use another folder
        return None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
