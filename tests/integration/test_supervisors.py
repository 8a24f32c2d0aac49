"""Whose worker a process is: forked, spawned, or nobody's."""

import multiprocessing
import os
import subprocess
import sys
import time

from otel_coach.sdk.resource import process_resource
from otel_coach.workers.supervisor import (
    Supervisor,
    pid_of_supervisor,
    start_time,
    supervisor,
)
from tests.support.membership import Source, group_in

# `make soak` has the other servers too, and more of each.


def instance_id():
    return process_resource().attributes["service.instance.id"]


def test_each_spawned_worker_is_an_instance_of_its_own(monkeypatch):
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as one, context.Pool(1) as other:
        assert len({instance_id(), one.apply(instance_id), other.apply(instance_id)}) == 3
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    assert instance_id() == "pod-7"
    with context.Pool(1) as pool:
        assert pool.apply(instance_id) == f"pod-7-{pool.apply(os.getpid)}"


# Who is whose worker


def supervisor_of_this_process():
    pid = pid_of_supervisor()
    return None if pid is None else supervisor(pid)


def test_this_process_has_no_supervisor_but_a_child_of_multiprocessing_has():
    assert supervisor_of_this_process() is None
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found = pool.apply(supervisor_of_this_process)
    assert found == supervisor(os.getpid())


def test_a_fork_has_one_and_a_daemon_has_none():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, repr(supervisor_of_this_process()).encode() + b"\n")
        if os.fork() == 0:
            while os.getppid() == _parent_of_daemon():
                time.sleep(0.01)
            os.write(write, repr(supervisor_of_this_process()).encode() + b"\n")
            os._exit(0)
        os._exit(0)
    os.close(write)
    os.wait()
    with os.fdopen(read) as answers:
        assert answers.read().splitlines() == [repr(supervisor(os.getpid())), "None"]


def _parent_of_daemon():
    from otel_coach.workers import supervisor as module

    return module._forked_by


def test_a_supervisor_lives_as_long_as_its_process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = supervisor(process.pid)
        assert found.lives
        assert not Supervisor(process.pid, "1").lives  # another one had that pid
        process.communicate(b"\n")
    assert not found.lives
    assert start_time(process.pid) is None


# Merging


def test_a_forked_child_leaves_its_parents_figures_alone(tmp_path):
    group = group_in(tmp_path / "shared", Source(lambda: str(os.getpid()).encode()))
    group.refresh()
    if (child := os.fork()) == 0:
        group.refresh()
        group.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert group._folder.snapshot(group._folder.me).read_bytes() == str(os.getpid()).encode()
    group.close()
