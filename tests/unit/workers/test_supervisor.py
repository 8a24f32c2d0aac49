"""A supervisor that cannot be seen is alive, whatever hides it."""

import os
import sys
from pathlib import Path
from subprocess import TimeoutExpired

import pytest

from otel_coach.workers import supervisor as supervisor_module
from otel_coach.workers.log_once import cure
from otel_coach.workers.supervisor import pid_of_supervisor, supervisor
from tests.support.supervisors import hide

# What can be seen of it without such a mount


def test_a_system_that_hides_processes_from_signals_too_tells_who_ones_parent_is(monkeypatch):
    hide(monkeypatch, FileNotFoundError(2, "no such file"))

    def no_process(pid, number):
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", no_process)
    assert supervisor(os.getppid()).started.startswith("hidden")
    assert supervisor(os.getpid()) is None


def test_without_proc_and_ps_workers_agree_too(monkeypatch):
    def no_program(*args, **kwargs):
        raise FileNotFoundError(2, "no such file")

    real = Path.exists
    hide(monkeypatch, FileNotFoundError(2, "no such file"))
    monkeypatch.setattr(Path, "exists", lambda path: "/proc" not in str(path) and real(path))
    monkeypatch.setattr(supervisor_module.subprocess, "run", no_program)
    assert supervisor(os.getpid()).started.startswith("hidden")


def test_a_ps_that_does_not_answer_is_named(monkeypatch):
    def hangs(command, *, timeout, **kwargs):
        raise TimeoutExpired(command, timeout)

    monkeypatch.setattr(supervisor_module.subprocess, "run", hangs)
    with pytest.raises(OSError, match="ps did not answer in 5 seconds") as raised:
        supervisor_module._start_time_by_ps(1)
    assert cure(raised.value, "else") == "else"


@pytest.mark.parametrize("imported", [(), ("gunicorn.arbiter",)])
def test_the_first_process_of_a_container_serves_alone(monkeypatch, imported):
    """Its parent is outside of the container, and has the id 0 in it."""
    for module in imported:  # the arbiter itself may be that process
        monkeypatch.setitem(sys.modules, module, sys)
    monkeypatch.setattr(os, "getppid", lambda: 0)
    assert pid_of_supervisor() is None


def test_a_process_that_multiprocessing_is_starting_has_a_supervisor(monkeypatch):
    """While `sitecustomize` is imported, multiprocessing has not told it of its parent yet."""
    assert pid_of_supervisor() is None
    spawned = ["python", "-c", "from multiprocessing.spawn import ...", "--multiprocessing-fork"]
    monkeypatch.setattr("sys.orig_argv", spawned)
    assert pid_of_supervisor() == os.getppid()
