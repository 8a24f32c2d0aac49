"""Neighbours on the same machine: nobody else gets at the folder, and no file of ours elsewhere."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import eventually, open_to_all

from otel_coach.budgets import Budgets
from otel_coach.serving import Serving
from otel_coach.settings import Settings
from otel_coach.testing import Page
from otel_coach.workers import base_folder as base_folder_module
from otel_coach.workers import folder as folder_module
from otel_coach.workers.base_folder import FolderError, base_folder, bases_of
from otel_coach.workers.folder import Folder
from otel_coach.workers.group import Group
from otel_coach.workers.log import SharedLog
from otel_coach.workers.retired import read_retired, write_retired
from otel_coach.workers.supervisor import Supervisor, bequeathed_secrets, here, supervisor
from soak.servers import SERVERS, running

ROOT = Path(__file__).parent.parent
NEIGHBOUR = 1234
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def place():
    """A folder that other users can look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="otel-coach-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def temporary(place, monkeypatch):
    """The only folders for everybody, as /tmp is."""
    folders = [place / name for name in ("tmp", "var-tmp", "shm")]
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folders[0]))
    monkeypatch.setattr(base_folder_module, "_TEMPORARY", tuple(map(str, folders)))
    return folders


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
    for name in ("retired", "funeral.task", "budgets.log", "mine.snapshot"):
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
            write_retired(folder, ["1-x"], b"retired")
            with folder.holding("funeral"):
                pass
            SharedLog(folder.file("budgets.log")).append(b"[]")
            folder.touch()
            assert dict(folder.workers())[folder.me]
            assert read_retired(folder) == (["1-x"], b"retired")
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
        folder = Folder(found, me)
        try:
            assert work(folder, time.monotonic() + 1) > 10
        finally:
            folder.withdraw()
            folder.leave()
    assert contents(victim) == before
    assert found.parent == temporary[0]


@AS_ROOT
def test_a_parent_that_is_another_users_later_leads_nowhere_else(place, victim):
    runtime = place / "run"
    runtime.mkdir(mode=0o755)
    me, before = supervisor(os.getpid()), contents(victim)
    folder = Folder(base_folder(None, str(runtime), me.key), me)
    os.chown(runtime, NEIGHBOUR, NEIGHBOUR)
    try:
        with attacked(runtime, victim, me.key, 1.5):
            assert work(folder, time.monotonic() + 1) > 10
        (runtime / "otel-coach").rename(runtime / "elsewhere")
        folder.write(folder.snapshot(folder.me), b"figures")
        moved = runtime / "elsewhere" / me.key / f"{folder.me}.snapshot"
        assert moved.read_bytes() == b"figures"
        (runtime / "otel-coach").symlink_to("trap")
        folder.leave()
        assert not moved.parent.exists()
    finally:
        folder.release()
    assert contents(victim) == before


# What is refused


@AS_ROOT
def test_a_folder_below_one_that_another_user_owns_is_refused(place):
    (place / "his" / "mine").mkdir(parents=True, mode=0o700)
    os.chown(place / "his", NEIGHBOUR, NEIGHBOUR)
    with pytest.raises(FolderError, match=f"his belongs to user {NEIGHBOUR}"):
        base_folder(str(place / "his" / "mine"), None)
    # Neither is a link of his followed, not even to a place where nobody could do harm.
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    (place / "safe").mkdir(mode=0o700)
    (place / "tmp" / "link").symlink_to(place / "safe")
    assert base_folder(str(place / "tmp" / "link" / "a"), None) == place / "safe" / "a"
    os.chown(place / "tmp" / "link", NEIGHBOUR, NEIGHBOUR, follow_symlinks=False)
    with pytest.raises(FolderError, match="link belongs to user"):
        base_folder(str(place / "tmp" / "link" / "b"), None)
    assert not (place / "safe" / "b").exists()


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777])
def test_a_folder_below_one_where_others_can_write_is_refused_and_not_made(tmp_path, bits):
    open_to_others = tmp_path / "open"
    open_to_others.mkdir()
    open_to_others.chmod(bits)
    with pytest.raises(FolderError, match=r"others can write in .*open.*chmod"):
        base_folder(str(open_to_others / "a" / "b"), None)
    assert not list(open_to_others.iterdir())
    open_to_others.chmod(bits | stat.S_ISVTX)
    assert base_folder(str(open_to_others / "a" / "b"), None).is_dir()
    with pytest.raises(FolderError, match="others"):  # the folder itself, by a way round
        base_folder(str(open_to_others / "a" / ".."), None)


def test_links_of_ones_own_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    found = base_folder(str(tmp_path / "link" / "." / "x" / ".." / "a"), None)
    assert found == tmp_path / "real" / "a"
    with pytest.raises(FolderError, match="cannot be made"):
        base_folder(str(tmp_path / "round" / "a"), None)


def test_an_unsafe_choice_is_one_line_with_its_cure(tmp_path, caplog):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    given = str(tmp_path / "open" / "shared")
    me = supervisor(os.getpid())
    assert Group.join(lambda: base_folder(given, None), me, None, None) is None
    (line,) = (record.getMessage() for record in caplog.records)
    assert f"others can write in {tmp_path / 'open'}" in line
    assert "chmod go-w or +t" in line
    assert "Set OTEL_COACH_SHARED_DIR" in line


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277, 0o777])
def test_what_is_made_is_private_and_usable_under_any_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        base = base_folder(str(tmp_path / "a" / "b" / "c"), None)
        folder = Folder(base, supervisor(os.getpid()))
        folder.write(folder.snapshot(folder.me), b"figures")
        folder.exclusive("port")
        SharedLog(folder.file("budgets.log"))
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(made) == 8
    assert {mode(path) for path in made if path.is_dir()} == {0o700}
    assert {mode(path) for path in made if path.is_file()} == {0o600}
    folder.withdraw()


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path):
    folder = Folder(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not yours")
    for name in ("port.task", "budgets.log", f"x.{folder.me}.new"):
        folder.file(name).symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        folder.exclusive("port")
    with pytest.raises(OSError, match="symbolic links"):
        SharedLog(folder.file("budgets.log"))
    folder.write(folder.file("x"), b"figures")
    assert folder.file("x").read_bytes() == b"figures"
    assert elsewhere.read_text() == "not yours"
    folder.withdraw()


# Names that a neighbour took


@AS_ROOT
def test_a_neighbour_who_takes_all_names_ends_no_sharing(temporary):
    name = f"otel-coach-{os.getuid()}"
    for folder in temporary:
        script = "import os, sys; os.mkdir(sys.argv[1], 0o700)"
        assert by_neighbour(script, folder / name).wait() == 0
    run = "1-2-3"
    with pytest.raises(FolderError, match="not a folder of this user"):
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
        with running(SERVERS[name], **arguments) as service:
            eventually(lambda: sum(len([*run.glob("*.lock")]) for run in found()) == 2, within=30)
            (run,) = found()
            assert run.is_relative_to(places[0])
            for _ in range(20):
                assert httpx.get(f"{service.url}/ask/x").status_code == 200
            for _ in range(8):
                page = Page(httpx.get(f"{service.url}/metrics").text)
                assert page.sum("agent_llm_requests_total") == 20
            service.program.stop()
            assert not run.parent.exists()
            assert "cannot share" not in service.program.log.read_text()
        assert [path for folder in taken for path in folder.iterdir()] == []
    finally:
        for folder in taken:
            folder.rmdir()


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


@AS_ROOT
def test_what_is_left_in_a_spare_folder_is_swept_by_the_next_that_needs_one(temporary):
    spare = temporary[0] / f"otel-coach-{os.getuid()}-old"
    crashed = spare / Supervisor(2**22 + 1, "1").key
    crashed.mkdir(parents=True, mode=0o700)
    spare.chmod(0o700)
    os.utime(spare, (1, 1))
    mine = temporary[0] / f"otel-coach-{os.getuid()}-new"
    mine.mkdir(mode=0o700)
    me = supervisor(os.getpid())
    folder = Folder(mine, me)
    assert not crashed.exists()
    folder.withdraw()
    folder.leave()
    assert not mine.exists()  # it was for this run alone


def test_a_supervisor_removes_the_spare_folder_of_its_workers(temporary, measured):
    me = supervisor(os.getpid())
    for folder in temporary:
        (folder / f"otel-coach-{os.getuid()}").write_text("taken")
    for secret in bequeathed_secrets():
        folder = Folder(base_folder(None, None, me.key, secret), me)
        folder.release()
        assert folder.path.exists()
        installed = measured.installation
        Serving(installed.page, installed.renders, installed.recorder, Settings()).end()
        assert not folder.path.parent.exists()


# Containers that share a folder


CONTAINER = """
import json, multiprocessing, os, signal, sys
from pathlib import Path
from otel_coach.workers.group import Group
from otel_coach.workers.supervisor import supervisor_of_this_process

class Source:
    measure = staticmethod(lambda whole: sys.argv[2].encode() if whole else b"")
    increments = staticmethod(lambda: b"")
    changed = staticmethod(lambda: False)
    retire = staticmethod(b"+".join)

def work(pipe):
    whose = supervisor_of_this_process()
    group = Group.join(lambda: Path(sys.argv[1]), whose, Source(), print)
    group.refresh()
    pipe.send([os.getpid(), whose.pid, [f.content.decode() for f in group.everybody()]])
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
    unseen, seen = base / "1-5-00000000", base / f"{2**22 + 1}-5-{here()}"
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


# What stays behind


def test_what_a_killed_worker_had_not_finished_goes_with_it(tmp_path):
    folder = Folder(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    theirs = ("7-dead.lock", "7-dead.snapshot", "7-dead.snapshot.7-dead.new", "retired.7-dead.new")
    others = ("77-dead.snapshot", "7-deader.lock", "retired")
    for name in theirs + others:
        folder.file(name).write_text("")
    folder.forget("7-dead")
    assert {path.name for path in folder.path.iterdir()} == {f"{folder.me}.lock", *others}
    folder.withdraw()


def test_who_was_killed_before_its_lock_had_its_name_is_dead_too(tmp_path):
    folder = Folder(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    dead = f"{2**22 + 1}-dead"
    for name in (f"{dead}.new", f"{os.getppid()}-beginning.new", f"retired.{dead}.new", "x.new"):
        folder.file(name).write_text("")
    assert dict(folder.workers()) == {folder.me: True, dead: False}
    folder.forget(dead)
    assert dict(folder.workers()) == {folder.me: True}
    assert not [path for path in folder.path.iterdir() if dead in path.name]
    folder.withdraw()


def test_the_log_of_budgets_is_as_long_after_five_hundred_workers_as_after_the_first(tmp_path):
    path, sizes = tmp_path / "budgets.log", []
    values = [f"model-{number}" for number in range(50)]
    for worker in range(500):
        budgets = Budgets({"model": 20})
        budgets.bounded("model", values[worker % 50])  # before it shares
        budgets.share(SharedLog(path))
        for value in values[worker % 7 :] + values:
            budgets.bounded("model", value)
            budgets.together("x", ("model",), (budgets.bounded("model", value),))
        sizes.append(path.stat().st_size)
    assert sizes[-1] == sizes[0]
    assert 0 < sizes[0] < 4000
    assert len(path.read_bytes().split()) < 1000


def test_a_log_with_a_hole_is_read_on_behind_it(tmp_path, monkeypatch):
    """As a disk leaves it that lost power."""
    monkeypatch.setattr("otel_coach.workers.log._MOST_AT_ONCE", 1000)
    path = tmp_path / "budgets.log"
    path.write_bytes(b"one\n" + bytes(5000))
    log = SharedLog(path)
    log.append(b"two")
    assert [line.strip(b"\x00") for line in log.new_lines()][-1] == b"two"
    path.write_bytes(path.read_bytes() + b"unfin")
    assert log.new_lines() == []
    log.append(b"three")
    assert log.new_lines() == [b"unfin", b"three"]


def test_a_folder_that_is_removed_meanwhile_is_an_error_and_no_other_folder(tmp_path):
    folder = Folder(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    with pytest.raises(FileNotFoundError):
        folder.write(folder.snapshot(folder.me), b"figures")
    assert not list(folder.path.iterdir())
    folder.release()
