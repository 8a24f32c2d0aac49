"""A supervisor that its workers cannot see (`hidepid`, systemd's `ProtectProc=`) is alive."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from otel_coach.testing import Page
from otel_coach.workers.supervisor import HiddenError, Supervisor, start_time, supervisor
from tests.support.paths import ROOT
from tests.support.processes import open_to_all
from tests.support.supervisors import hide
from tests.support.waiting import end, eventually
from verification.soak.servers import SERVERS, running

NOBODY = 65534
KERNEL = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
# Before Linux 5.8 all mounts of /proc share their options: the test would hide the machine's.
AS_ROOT = pytest.mark.skipif(
    os.getuid() != 0 or KERNEL < (5, 8), reason="only root can mount a /proc of its own"
)


@pytest.fixture
def place():
    """A folder for everybody, as /tmp is; pytest's own are the user's."""
    with tempfile.TemporaryDirectory(prefix="oc-") as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def hiding(option, place):
    """The beginning of a command, which then has a /proc of its own, mounted with `option`."""
    return open_to_all(place, f"mount -t proc -o {option} proc /proc")


ASK = """
import os, sys
from otel_coach.workers.supervisor import Supervisor, start_time, supervisor
os.setgroups([]), os.setgid(65534), os.setuid(65534)
hidden, visible, gone = map(int, sys.argv[1:])
for pid in (hidden, visible, gone, os.getpid()):
    try:
        print(type(start_time(pid)).__name__)
    except OSError as error:
        print(type(error).__name__)
    print(Supervisor(pid, "1").lives)
print(supervisor(gone))
"""


@AS_ROOT
@pytest.mark.parametrize("option", ["hidepid=1", "hidepid=2", "hidepid=4"])
def test_what_is_hidden_lives_and_what_is_gone_does_not(place, option):
    with subprocess.Popen(["sleep", "60"]) as gone:
        gone.kill()
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    with subprocess.Popen(["sleep", "60"]) as hidden:
        with subprocess.Popen([*drop, "sleep", "60"]) as visible:
            command = [sys.executable, "-c", ASK, *map(str, (hidden.pid, visible.pid, gone.pid))]
            done = subprocess.run(
                [*hiding(option, place), *command],
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
            )
            visible.kill()
        hidden.kill()
    assert not done.returncode, done.stderr
    said = done.stdout.split()
    # Who dropped his rights may not look at a process of his own rights that never had others.
    assert said[:2] == ["HiddenError", "True"]
    assert said[2:4] in (["str", "False"], ["HiddenError", "True"])
    assert said[4:6] == ["NoneType", "False"]
    assert said[6:8] == ["str", "False"]
    assert said[8] == "None"


@pytest.mark.long
@AS_ROOT
@pytest.mark.fleet
@pytest.mark.parametrize("name", [name for name in SERVERS if name.partition(" ")[0] != "fastapi"])
def test_workers_of_another_user_than_their_supervisor_show_one_page_behind_hidepid(name, place):
    by_server = name.startswith("gunicorn")
    options = ("--user", str(NOBODY), "--group", str(NOBODY)) if by_server else ()
    environment = {
        "OTEL_COACH_SHARED_DIR": "",
        "TMPDIR": str(place),
        "XDG_RUNTIME_DIR": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SMALL_APP": "says who answers" if by_server else "drops its rights",
    }
    prefix = hiding("hidepid=2", place)
    arguments = {"environment": environment, "workers": 2, "prefix": prefix}
    with running(SERVERS[name], *options, **arguments) as service:
        shared = place / f"otel-coach-{NOBODY}"
        eventually(lambda: len(list(shared.rglob("*.lock"))) == 2)
        workers = {worker.pid: worker.uids().real for worker in service.workers()}
        assert [*workers.values()].count(NOBODY) == 2
        for _ in range(30):
            assert httpx.get(f"{service.url}/ask/x").status_code == 200

        def calls():
            return Page(httpx.get(f"{service.url}/metrics").text).sum("agent_llm_requests_total")

        assert {calls() for _ in range(10)} == {30}
        (run,) = shared.iterdir()
        assert "-hidden" in run.name
        if name not in {"hypercorn", "granian"}:  # the others start a new one in its place
            end(min(pid for pid, user in workers.items() if user == NOBODY))
            eventually(lambda: len(list(run.glob("*.sock"))) == 2)
            assert {calls() for _ in range(10)} == {30}
        assert [*shared.iterdir()] == [run]
        assert "cannot" not in service.program.log.read_text()
        assert "nobody can tell" not in service.program.log.read_text()


# What can be seen of it without such a mount


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no such file"), PermissionError(13, "no")])
def test_a_hidden_supervisor_has_a_key_on_which_its_workers_agree(monkeypatch, error):
    hide(monkeypatch, error)
    with pytest.raises(HiddenError, match="hides process"):
        start_time(os.getpid())
    found = supervisor(os.getpid())
    assert found.started.startswith("hidden")
    assert len(found.key) <= 35 + 7 - len(str(os.getpid()))
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, supervisor(os.getppid()).key.encode())
        os._exit(0)
    os.wait()
    assert os.read(read, 1000).decode() == found.key
    assert found.lives
    monkeypatch.undo()
    assert found.lives  # though it is seen now
    with subprocess.Popen(["sleep", "60"]) as other:
        later = Supervisor(other.pid, found.started)
        assert later.lives
        other.kill()
    assert not later.lives
    assert not Supervisor(10**30, "1").lives
