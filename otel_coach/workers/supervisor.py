"""Whether this process is one worker among several, and whose."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_coach.workers.outage import NO_DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Callable

_HIDDEN: Final = "hidden"
"""Begins what stands for a start time that the system keeps to itself."""
_START_TIME: Final = 19
"""The place of `starttime` in /proc/PID/stat, counted after the command's closing bracket (proc(5),
field 22)."""

_forking = _forked_by = 0
"""The process that forks, and the one that forked this process."""


def _before_fork() -> None:
    global _forking  # noqa: PLW0603 - a fork has no other way to leave a note
    _forking = os.getpid()


def _after_fork() -> None:
    global _forked_by  # noqa: PLW0603
    _forked_by = _forking


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


class HiddenError(OSError):
    """A process lives, and the system does not say since when (/proc with `hidepid`)."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The process that starts a service's workers and starts new ones where they end."""

    pid: int
    started: str
    """When, as the kernel says it: a process that took over the pid has another one. Where the
    system hides that, what its workers have inherited from it."""

    @property
    def key(self) -> str:
        """A file name that no other supervisor of this machine has, nor had.

        Raises:
            OSError: nobody can tell.
        """
        return f"{self.pid}-{self.started}-{here()}"

    @property
    def lives(self) -> bool:
        """Whether it runs still, or nobody can tell."""
        try:
            started = start_time(self.pid)
        except OSError:  # a hidden process among them
            return True
        if self.started.startswith(_HIDDEN):  # it was hidden once, and is not now
            return started is not None
        return started == self.started


def supervisor_of_this_process() -> Supervisor | None:
    """Whose worker this process is; None where it serves alone, or nobody can tell."""
    pid = pid_of_supervisor()
    try:
        return None if pid is None else supervisor(pid)
    except OSError:
        return None


def pid_of_supervisor() -> int | None:
    """Of the process whose worker this one is; None where it serves alone.

    uvicorn, hypercorn and granian start workers by multiprocessing; gunicorn forks them. Who made
    itself a daemon has another parent than the one that forked it, and serves alone.
    """
    if (starter := multiprocessing.parent_process()) is not None and starter.pid is not None:
        return starter.pid
    parent = os.getppid()
    is_worker = parent == _forked_by or "gunicorn.arbiter" in sys.modules
    return parent if is_worker else None


def supervisor(pid: int) -> Supervisor | None:
    """The process `pid`, this one's supervisor or itself; None if there is none.

    Raises:
        OSError: nobody can tell when it was started.
    """
    try:
        started = start_time(pid)
    except HiddenError:
        return Supervisor(pid, _HIDDEN + inherited_secret())
    return None if started is None else Supervisor(pid, started)


def inherited_secret() -> str:
    """What all workers of this process's supervisor have inherited, and no other user can know."""
    is_started = multiprocessing.parent_process() is not None
    return _secret_by_start() if is_started else _secret_by_fork()


def bequeathed_secrets() -> tuple[str, str]:
    """What `inherited_secret` is in workers of this process, whichever way it starts them."""
    return _secret_by_start(), _secret_by_fork()


def _secret_by_start() -> str:
    """Python's multiprocessing hands this key, drawn anew for each run, to all that it starts."""
    return _digest(bytes(multiprocessing.current_process().authkey), 12)


def _secret_by_fork() -> str:
    """A fork inherits the seed of Python's hashes and the places of objects in memory.

    Each is drawn anew for each run; an operator may fix one of them (PYTHONHASHSEED).
    """
    return _digest((hash("otel-coach"), id(sys)), 12)


def _digest(of: object, length: int) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:length]


def start_time(pid: int) -> str | None:
    """When the process `pid` was started, in the words of its system; None if there is none.

    Raises:
        HiddenError: it lives, and the system does not say.
        OSError: nobody can tell.
    """
    started: str | None = None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if not Path("/proc/self/stat").exists():
            started = _start_time_by_ps(pid)
    except ProcessLookupError:
        return None  # it ended while it was read
    except PermissionError:
        pass
    else:
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in {"Z", "X"} else fields[_START_TIME - 1]
    if started is None and is_there(pid):
        message = f"the system hides process {pid}"
        raise HiddenError(message)
    return started


def is_there(pid: int) -> bool:
    """Whether there is a process `pid`, be it hidden, another user's, or one that has ended."""
    if pid == os.getppid():
        return True  # systems that hide processes may hide them from signals too
    try:
        os.kill(pid, 0)  # on POSIX only: elsewhere this is no question
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _start_time_by_ps(pid: int) -> str | None:
    """Where there is no /proc."""
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(*error.args) from error
    except FileNotFoundError:
        if os.name != "posix":
            raise
        return None
    return "".join(filter(str.isalnum, answer.stdout)) or None


def here() -> str:
    """What tells this boot and this container from others, as eight letters.

    Process ids repeat across containers that share a folder, and across boots.

    Raises:
        OSError: nobody can tell.
    """
    known = [_of_kernel(_boot), _of_kernel(_pid_namespace)]
    if None in known:
        known.append(platform.node())  # which may change while the machine runs
    return _digest(known, 8)


def _of_kernel(ask: Callable[[], str]) -> str | None:
    try:
        return ask()
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise  # the other workers can tell
        return None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
