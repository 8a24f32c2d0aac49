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
from typing import Final

from otel_coach.workers.outage import NO_DESCRIPTOR

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


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The process that starts a service's workers and starts new ones where they end."""

    pid: int
    started: str
    """When, as the kernel says it: a process that took over the pid has another one."""

    @property
    def key(self) -> str:
        """A file name that no other supervisor of this machine has, nor had.

        Raises:
            OSError: nobody can tell.
        """
        # Process ids repeat across containers that share a folder, and across boots.
        where = (*_namespace(), platform.node())
        digest = hashlib.sha256(repr(where).encode()).hexdigest()[:8]
        return f"{self.pid}-{self.started}-{digest}"

    @property
    def lives(self) -> bool:
        """Whether it runs still, or nobody can tell."""
        try:
            return start_time(self.pid) == self.started
        except OSError:
            return True


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
    """The process `pid` as a supervisor; None if there is none.

    Raises:
        OSError: nobody can tell when it was started.
    """
    started = start_time(pid)
    return None if started is None else Supervisor(pid, started)


def start_time(pid: int) -> str | None:
    """When the process `pid` was started, in the words of its system; None if there is none.

    Raises:
        OSError: nobody can tell.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _start_time_by_ps(pid)
    except ProcessLookupError:
        return None  # it ended while it was read
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else fields[_START_TIME - 1]


def _start_time_by_ps(pid: int) -> str | None:
    """Where there is no /proc."""
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(*error.args) from error
    return "".join(filter(str.isalnum, answer.stdout)) or None


def _namespace() -> tuple[str, ...]:
    """What tells this boot and this container from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return boot, str(Path("/proc/self/ns/pid").readlink())
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise  # the other workers can tell
        return ()
