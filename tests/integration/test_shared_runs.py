"""Runs of other processes and containers in the same folder."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

from otel_coach.workers import run_dir as folder_module
from otel_coach.workers.shared_dir import base_folder
from otel_coach.workers.supervisor import system_id
from tests.support.neighbours import AS_ROOT
from tests.support.paths import ROOT

# Names that a neighbour took

SECRETS = """
import multiprocessing, os, sys
from otel_coach.workers.supervisor import bequeathed_secrets, inherited_secret

def started():
    print(inherited_secret(), flush=True)

if __name__ == "__main__":
    by_start, by_fork = bequeathed_secrets()
    print(by_start, by_fork, flush=True)
    for method in ("spawn", "fork", "forkserver"):
        context = multiprocessing.get_context(method)
        workers = [context.Process(target=started) for _ in range(2)]
        for worker in workers:
            worker.start()
            worker.join()
    for _ in range(2):
        if os.fork() == 0:
            started()
            os._exit(0)
        os.wait()
"""


def test_all_workers_inherit_one_secret_that_is_another_one_in_each_run(tmp_path):
    script = tmp_path / "secrets.py"
    script.write_text(SECRETS)
    found = []
    for environment in ({}, {}, {"PYTHONHASHSEED": "0"}):
        done = subprocess.run(
            [sys.executable, script],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        (by_start, by_fork), *others = map(str.split, done.stdout.splitlines())
        assert others == [[by_start]] * 6 + [[by_fork]] * 2
        found += [by_start, by_fork]
    assert len(set(found)) == 6


# Containers that share a folder

CONTAINER = """
import json, multiprocessing, os, signal, sys
from pathlib import Path
from otel_coach.workers.membership import Membership
from otel_coach.workers.supervisor import pid_of_supervisor, supervisor

class Source:
    measure = staticmethod(lambda whole: sys.argv[2].encode() if whole else b"")
    increments = staticmethod(lambda: b"")
    changed = staticmethod(lambda: False)
    fold = staticmethod(b"+".join)

def work(pipe):
    whose = supervisor(pid_of_supervisor())
    group = Membership.join(lambda: Path(sys.argv[1]), whose, Source(), print)
    group.refresh()
    pipe.send([os.getpid(), whose.pid, [f.content.decode() for f in group.all_metrics()]])
    signal.pause()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for line in sys.stdin:
        ours, theirs = context.Pipe()
        worker = context.Process(target=work, args=(theirs,))
        worker.start()
        print(json.dumps(ours.recv()), flush=True)
        worker.kill()
        worker.join()
"""


@contextmanager
def container(script, base, name):
    """A pid namespace whose first process starts a worker for each line that it reads."""
    command = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, sys.executable, script, base, name], text=True, env=environment, **pipes
    ) as process:

        def worker():
            process.stdin.write("\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        try:
            yield worker
        finally:
            process.kill()


@AS_ROOT
def test_two_containers_with_one_folder_leave_each_others_runs_alone(tmp_path):
    """Each has its process 1, and at the worst moment none of its workers lives."""
    script = tmp_path / "container.py"
    script.write_text(CONTAINER)
    base = base_folder(str(tmp_path / "shared"), None)
    with container(script, base, "one") as one, container(script, base, "other") as other:
        assert one()[1:] == [1, ["one"]]
        assert other()[1:] == [1, ["other"]]
        _, _, found = one()
        assert sorted(found) == ["one", "one"]  # the one that was killed, and its successor
        _, _, found = other()
        assert sorted(found) == ["other", "other"]
        assert len(list(base.iterdir())) == 2


HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(60)
"""


def test_a_run_of_which_nobody_can_see_the_supervisor_is_judged_by_its_locks_and_its_age(tmp_path):
    base = base_folder(str(tmp_path / "shared"), None)
    unseen, seen = base / "1-5-00000000", base / f"{2**22 + 1}-5-{system_id()}"
    for run in (unseen, seen):
        run.mkdir(mode=0o700)
        (run / "1-a.lock").touch(mode=0o600)
    folder_module._sweep(base)
    assert [*base.iterdir()] == [unseen]
    os.utime(unseen, (time.time() - 7200,) * 2)
    holding = subprocess.Popen(
        [sys.executable, "-c", HOLDER, unseen / "1-a.lock"], stdout=subprocess.PIPE
    )
    with holding:
        holding.stdout.readline()
        folder_module._sweep(base)
        assert unseen.exists()
        holding.kill()
    folder_module._sweep(base)
    assert not unseen.exists()
