"""Neighbours on the same machine: nobody else gets at the folder, and no file of ours elsewhere."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from otel_coach.testing import Page
from otel_coach.workers import shared_dir as base_folder_module
from otel_coach.workers.append_log import SharedLog
from otel_coach.workers.dead_workers import read_dead_workers, write_dead_workers
from otel_coach.workers.run_dir import RunDir
from otel_coach.workers.shared_dir import SharedDirError, base_folder, bases_of
from otel_coach.workers.supervisor import supervisor
from tests.support.fleets import plain
from tests.support.neighbours import AS_ROOT, NEIGHBOUR, mode
from tests.support.processes import open_to_all
from tests.support.small_service import HTTP
from tests.support.waiting import eventually
from verification.soak.servers import SERVERS, running


def by_neighbour(script, *arguments):
    """A program of the neighbour's."""
    # What it imports may lie where only root can read.
    drop = (
        "import os, pathlib, sys, time\n"
        f"os.setgroups([]); os.setgid({NEIGHBOUR}); os.setuid({NEIGHBOUR})\n"
    )
    command = [sys.executable, "-c", drop + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# The attack

ATTACK = """
runtime, victim, run, seconds = sys.argv[1:]
runtime = pathlib.Path(runtime)
ours, aside, trap = runtime / "otel-coach", runtime / "aside", runtime / "trap"
trap.mkdir()
(trap / run).symlink_to(victim)
end, turns = time.monotonic() + float(seconds), 0
print("ready", flush=True)
while time.monotonic() < end:
    if ours.exists() and not ours.is_symlink():
        ours.rename(aside)
    ours.symlink_to("trap")
    turns += 1
    time.sleep(0.0005)
    ours.unlink()
    if aside.exists():
        aside.rename(ours)
print(turns, flush=True)
"""


@contextmanager
def attacked(runtime, victim, run, seconds):
    """The neighbour, who owns `runtime`, lets `otel-coach` below it lead to the victim."""
    with by_neighbour(ATTACK, runtime, victim, run, seconds) as attacker:
        assert attacker.stdout.readline() == "ready\n"
        yield attacker
        turns = attacker.communicate()[0]
        assert attacker.returncode == 0
        assert int(turns) > 50


@pytest.fixture
def victim(place):
    """A folder of root's, with files that are called as ours are."""
    folder = place / "victim"
    folder.mkdir(mode=0o700)
    for name in ("dead", "folding.task", "budgets.log", "mine.snapshot"):
        (folder / name).write_text("not yours")
    return folder


def contents(folder):
    found = {path.name: (path.read_text(), path.lstat().st_mtime_ns) for path in folder.iterdir()}
    return {**found, "": folder.stat().st_mtime_ns}


def work(folder, deadline):
    """All that a worker does there, again and again; how often."""
    turns = 0
    while time.monotonic() < deadline:
        turns += 1
        try:
            folder.write(folder.snapshot(folder.me), b"figures")
            write_dead_workers(folder, ["1-x"], b"dead")
            with folder.holding("folding"):
                pass
            SharedLog(folder.file("budgets.log")).append(b"[]")
            folder.touch()
            assert dict(folder.workers())[folder.me]
            assert read_dead_workers(folder) == (["1-x"], b"dead")
        except OSError:  # the attacker may end our sharing, and no more
            continue
    return turns


@AS_ROOT
def test_root_that_kept_a_users_runtime_folder_overwrites_nothing_for_him(place, victim, temporary):
    """As after `su` or `sudo -E`."""
    runtime = place / "run"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, NEIGHBOUR, NEIGHBOUR)
    me, before = supervisor(os.getpid()), contents(victim)
    found = base_folder(None, str(runtime), me.key)
    with attacked(runtime, victim, me.key, 1.5):
        folder = RunDir(found, me)
        try:
            assert work(folder, time.monotonic() + 1) > 10
        finally:
            folder.withdraw()
            folder.remove()
    assert contents(victim) == before
    assert found.parent == temporary[0]


@AS_ROOT
def test_a_parent_that_is_another_users_later_leads_nowhere_else(place, victim):
    runtime = place / "run"
    runtime.mkdir(mode=0o755)
    me, before = supervisor(os.getpid()), contents(victim)
    folder = RunDir(base_folder(None, str(runtime), me.key), me)
    os.chown(runtime, NEIGHBOUR, NEIGHBOUR)
    try:
        with attacked(runtime, victim, me.key, 1.5):
            assert work(folder, time.monotonic() + 1) > 10
        (runtime / "otel-coach").rename(runtime / "elsewhere")
        folder.write(folder.snapshot(folder.me), b"figures")
        moved = runtime / "elsewhere" / me.key / f"{folder.me}.snapshot"
        assert moved.read_bytes() == b"figures"
        (runtime / "otel-coach").symlink_to("trap")
        folder.remove()
        assert not moved.parent.exists()
    finally:
        folder.release()
    assert contents(victim) == before


# Names that a neighbour took


@AS_ROOT
def test_a_neighbour_who_takes_all_names_ends_no_sharing(temporary):
    name = f"otel-coach-{os.getuid()}"
    for folder in temporary:
        script = "import os, sys; os.mkdir(sys.argv[1], 0o700)"
        assert by_neighbour(script, folder / name).wait() == 0
    run = "1-2-3"
    with pytest.raises(SharedDirError, match="not a folder of this user"):
        base_folder(None, None, run)
    found = base_folder(None, None, run, "abc")
    assert found == temporary[0] / f"{name}-abc"
    assert mode(found) == 0o700
    assert base_folder(None, None, run, "abc") == found
    (found / run).mkdir()
    assert bases_of(run, None, None, ("xyz", "abc")) == [found]
    # If he could tell the secret, he would have one of three places.
    os.chown(found, NEIGHBOUR, NEIGHBOUR)
    assert base_folder(None, None, run, "abc") == temporary[1] / f"{name}-abc"


@AS_ROOT
@pytest.mark.fleet
@pytest.mark.parametrize("name", ["uvicorn", "gunicorn"])
def test_real_workers_find_one_folder_where_a_neighbour_has_all_our_names(place, name):
    user = 54_321  # of whom there is nothing on this machine
    places = [Path(folder) for folder in base_folder_module._TEMPORARY]
    taken = [folder / f"otel-coach-{user}" for folder in places]

    def found():
        return [run for folder in places for run in folder.glob(f"otel-coach-{user}-*/*")]

    drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    environment = {
        **dict.fromkeys(("OTEL_COACH_SHARED_DIR", "TMPDIR", "XDG_RUNTIME_DIR"), ""),
        "HOME": "/nowhere",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        for folder in taken:
            folder.mkdir(mode=0o700)
            os.chown(folder, NEIGHBOUR, NEIGHBOUR)
        prefix = [*open_to_all(place), *drop]
        arguments = {"environment": environment, "workers": 2, "prefix": prefix}
        with running(plain(SERVERS[name]), **arguments) as service:
            eventually(lambda: sum(len([*run.glob("*.lock")]) for run in found()) == 2)
            (run,) = found()
            assert run.is_relative_to(places[0])
            for _ in range(20):
                assert httpx.get(f"{service.url}/hello/x").status_code == 200
            for _ in range(8):
                page = Page(httpx.get(f"{service.url}/metrics").text)
                assert page.sum(HTTP, endpoint="/hello/{name}") == 20
            service.program.stop()
            assert not run.parent.exists()
            assert "cannot share" not in service.program.log.read_text()
        assert [path for folder in taken for path in folder.iterdir()] == []
    finally:
        for folder in taken:
            folder.rmdir()
