"""Disks that are full and descriptors that are used up: nothing falls, nobody is buried alive."""

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest
from conftest import eventually, serving
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from demo.programs import free_port
from otel_coach.exposition.answer import answer
from otel_coach.exposition.port import Address, serve
from otel_coach.exposition.renders import Renders
from otel_coach.exposition.snapshot import Snapshot, from_bytes, to_bytes
from otel_coach.serving import Serving
from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from otel_coach.workers import base_folder as base_folder_module
from otel_coach.workers import folder as folder_module
from otel_coach.workers import group as group_module
from otel_coach.workers import outage as outage_module
from otel_coach.workers.base_folder import FolderError, base_folder
from otel_coach.workers.doorbell import Doorbell, ring
from otel_coach.workers.figures import Figures
from otel_coach.workers.folder import Folder, remove_run
from otel_coach.workers.group import Group
from otel_coach.workers.journal import Journal
from otel_coach.workers.outage import Outage
from otel_coach.workers.supervisor import supervisor
from soak.clients import Scraper
from soak.servers import SERVERS, running

ROOT = Path(__file__).parent.parent


# What is scarce


class Disk:
    """A small disk of its own, or where this user can mount none, one that pretends to be full."""

    def __init__(self, path):
        self.path = path
        self._pretence = pytest.MonkeyPatch()
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", path]
        mounted = subprocess.run(mount, check=False, capture_output=True)
        self.is_real = not mounted.returncode

    def fill(self):
        if not self.is_real:
            self._pretence.setattr(folder_module, "open", self._full, raising=False)
            self._pretence.setattr(base_folder_module, "_has_room", self._has_room)
            self._pretence.setattr(Journal, "append", self._full_file)
            return
        with pytest.raises(OSError, match="No space"):
            (self.path / "filler").write_bytes(bytes(1 << 20))

    def free(self):
        self._pretence.undo()
        (self.path / "filler").unlink(missing_ok=True)

    def unmount(self):
        self._pretence.undo()
        if self.is_real:
            subprocess.run(["umount", "--lazy", self.path], check=True)

    def _full(self, path, mode, opener):
        open(path, mode, opener=opener).close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _full_file(self, journal, changed):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _has_room(self, base):
        return not base.is_relative_to(self.path)


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk")
    yield made
    made.unmount()


@contextmanager
def descriptors(left=0):
    """So many more files can be opened by this process."""
    with ExitStack() as free:
        for _ in range(left + 1):
            last = os.dup(0)
            free.callback(os.close, last)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files():
    return len(list(Path("/dev/fd").iterdir()))


# Who shares


def numbered(number):
    """As much as fits into no rest of a block of a full disk."""
    return b"%4096d" % number


class Source:
    """What a worker measures: how often it was measured."""

    def __init__(self):
        self.measured = count(1)
        self.retired = []

    def measure(self, *, whole):
        return numbered(next(self.measured))

    def changed(self):
        return False

    def increments(self):
        return b""

    def retire(self, contents):
        self.retired.append(list(contents))
        return b"+".join(contents)


def never(fault, place):
    raise AssertionError(place) from fault


@pytest.fixture
def groups():
    """Makes a group of which this process is a worker."""
    with ExitStack() as made:

        def make(path, source=None):
            me = supervisor(os.getpid())
            group = Group(Folder(base_folder(str(path), None), me), me, source or Source(), never)
            made.callback(group._folder.leave)
            made.callback(group._doorbell.close)
            made.callback(group._folder.withdraw)
            return group

        yield make


OTHER_WORKER = """
import sys
from pathlib import Path
from otel_coach.workers.group import Group
from otel_coach.workers.supervisor import supervisor

class Source:
    measure = staticmethod(lambda whole: sys.argv[3].encode() if whole else b"")
    changed = staticmethod(lambda: False)
    increments = staticmethod(lambda: b"")
    retire = staticmethod(b"+".join)

group = Group.join(lambda: Path(sys.argv[1]), supervisor(int(sys.argv[2])), Source(), print)
group.refresh()
print(group._folder.me, flush=True)
sys.stdin.read()
"""


@contextmanager
def another_worker(base, content=b"other"):
    """A process that is one, and wrote `content`; its name."""
    base_folder(str(base), None)
    command = [sys.executable, "-c", OTHER_WORKER, base, str(os.getpid()), content.decode()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def by_worker(group):
    return {figures.worker: figures for figures in group.everybody()}


def lines(caplog):
    """What was logged, and forget it."""
    found = [record.getMessage() for record in caplog.records if record.name == "otel_coach"]
    assert all(line.startswith("otel-coach: ") for line in found)
    assert all(record.exc_info is None for record in caplog.records)
    caplog.clear()
    return found


# A full disk


def test_a_worker_that_cannot_write_shows_what_all_others_read_and_catches_up(disk, groups, caplog):
    group = groups(disk.path / "shared")
    me, file = group._folder.me, group._folder.snapshot(group._folder.me)
    assert by_worker(group)[me] == Figures(me, numbered(1), lives=True, stale=False)
    disk.fill()
    for _ in range(3):
        assert by_worker(group)[me] == Figures(me, file.read_bytes(), lives=True, stale=True)
    assert file.read_bytes() == numbered(1)
    (line,) = lines(caplog)
    assert "No space left" in line
    assert "Free some space" in line
    disk.free()
    group._tick()  # though nothing changed since it was measured
    assert file.read_bytes() == numbered(5)
    both = numbered(5) + numbered(6)
    assert by_worker(group)[me] == Figures(me, both, lives=True, stale=False)
    (line,) = lines(caplog)
    assert "can be written again" in line


def test_a_worker_that_never_wrote_is_on_no_page_and_said_to_be_missing(disk, groups):
    group = groups(disk.path / "shared")
    disk.fill()
    me = group._folder.me
    assert by_worker(group) == {me: Figures(me, None, lives=True, stale=True)}


def test_who_rings_at_a_worker_that_cannot_write_hears_nothing(disk, groups):
    group = groups(disk.path / "shared")
    doors = {"me": group._folder.socket(group._folder.me)}

    def silent():
        answering = threading.Thread(target=group._doorbell.wait, args=(5, group.refresh))
        answering.start()
        found = ring(doors, 1, lambda: None)
        answering.join()
        return found

    assert silent() == set()
    disk.fill()
    assert silent() == {"me"}
    disk.free()
    assert silent() == set()


def test_what_could_not_be_finished_takes_no_space(disk, groups):
    group = groups(disk.path / "shared")
    disk.fill()
    assert not group.refresh()
    assert not list(group._folder.path.glob("*.new"))


def test_nobody_is_buried_on_a_full_disk(disk, groups):
    source = Source()
    group = groups(disk.path / "shared", source)
    with another_worker(disk.path / "shared") as other:
        assert by_worker(group)[other].content == b"other"
    disk.fill()
    group.refresh()
    group._tidy()
    assert source.retired == []
    assert by_worker(group)[other] == Figures(other, b"other", lives=False, stale=False)
    disk.free()
    group.refresh()
    group._tidy()
    assert source.retired == [[b"other"]]
    assert by_worker(group)["retired"].content == b"other"


def test_what_is_lost_at_the_end_is_said(disk, groups, caplog):
    group = groups(disk.path / "shared")
    group.refresh()
    disk.fill()
    group.close()
    assert "is lost" in lines(caplog)[-1]


@pytest.mark.fleet
def test_real_workers_on_a_full_disk_agree_and_are_right_again_after_it(disk):
    if not disk.is_real:
        pytest.skip("only root can mount a small disk")
    shared = {"OTEL_COACH_SHARED_DIR": str(disk.path / "shared")}
    with running(SERVERS["gunicorn"], environment=shared, workers=2) as service:
        eventually(lambda: len(list((disk.path / "shared").rglob("*.snapshot"))) == 2, within=30)
        asked = count(1)

        def ask(times):
            for _ in range(times):
                assert httpx.get(f"{service.url}/ask/x").status_code == 200
                asked_so_far = next(asked)
            return asked_so_far

        def scraped():
            scraper.read()
            page = Page(httpx.get(f"{service.url}/metrics").text)
            return page.sum("agent_llm_requests_total"), page.text

        scraper = Scraper(service.url)
        before = ask(20)
        assert scraped()[0] == before
        disk.fill()
        stale = {
            f"# otel-coach: worker {worker.pid} does not answer or cannot write"
            for worker in service.workers()
        }
        found, shown = "", [before]
        while not all(line in found for line in stale):  # the last block had some room left
            asked_so_far = ask(1)
            value, found = scraped()
            shown.append(value)
            assert shown[-2] <= value <= asked_so_far <= before + 100
        assert {scraped()[0] for _ in range(8)} == {shown[-1]}
        disk.free()
        everything = ask(2)
        assert {scraped()[0] for _ in range(8)} == {everything}
        assert "otel-coach: worker" not in scraped()[1]
        assert scraper.fallen == []
        log = service.program.log.read_text()
        assert log.count("cannot be written") == log.count("can be written again") == 2
        assert log.count("does not answer") <= 2
        assert "Traceback" not in log


# No descriptors


def test_there_is_no_page_while_not_all_figures_can_be_read(tmp_path, groups, caplog):
    with measuring() as measured, another_worker(tmp_path / "shared", written(5)):
        page = measured.installation.page
        group = groups(tmp_path / "shared", page)
        page.show_all(group.everybody)
        statuses = []
        for left in (100, 0, 1, 2, 3, 4, 100):
            with descriptors(left):
                found = answer(page, "")
            statuses.append(found.status)
            if found.status == 200:
                assert Page(found.body.decode()).sum("orders_total") == 5
            else:
                assert found.body.count(b"\n") == 1
                assert b"Too many open files" in found.body
                assert b"ulimit" in found.body
                assert str(tmp_path).encode() not in found.body
        assert statuses[:3] == [200, 503, 503]
        assert statuses[-1] == 200
        no_page, page_again = lines(caplog)
        assert "there is no page" in no_page
        assert "page for Prometheus is there again" in page_again


def test_a_counter_that_could_not_be_read_does_not_vanish(measured):
    page = measured.installation.page
    before = page.measure(whole=True)
    with descriptors():
        after = page.measure(whole=True)
    for content in before, after:
        ((snapshot,), _) = from_bytes(content)
        assert [part.name for part in snapshot.parts].count("process_cpu_seconds") == 1


def written(orders):
    """What a worker wrote that counted so many."""
    registry = CollectorRegistry()
    Counter("orders", "Orders", registry=registry).inc(orders)
    return to_bytes(Snapshot.of(registry.collect(), {}))


def test_a_page_that_cannot_be_read_is_one_line_inside_the_application_and_on_a_port(caplog):
    def nobody(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/run/secret")

    for port in (None, free_port()):
        settings = Settings(metrics_port=port, metrics_host="127.0.0.1")
        with measuring(settings) as measured, serving(FastAPI()) as client:
            client.get("/")
            page = measured.installation.page
            page.show_all(nobody)
            url = f"http://127.0.0.1:{port}/metrics" if port else f"{client.base_url}/metrics"
            for _ in range(2):
                found = httpx.get(url)
                assert found.status_code == 503
                assert found.headers["content-type"].startswith("text/plain")
                assert found.text.startswith("otel-coach: not all figures can be read (Too many")
                assert "secret" not in found.text
            page.show_all(lambda _: [])
            assert httpx.get(url).status_code == 200
            no_page, again = (line for line in lines(caplog) if "page" in line)
            assert "there is no page" in no_page
            assert "there again" in again


def test_damaged_figures_of_the_dead_are_no_page_and_are_not_written_over(tmp_path, groups, caplog):
    source = Source()
    group = groups(tmp_path / "shared", source)
    with another_worker(tmp_path / "shared"):
        pass
    retired = group._folder.path / "retired"
    for damaged in (b"", b"\x00\x00\n{}", b"5\n{}"):
        retired.write_bytes(damaged)
        with pytest.raises(FolderError, match="damaged"):
            group.everybody()
        group._tidy()
        assert retired.read_bytes() == damaged
    assert source.retired == []
    (line,) = lines(caplog)
    assert "is damaged" in line
    assert "Restart the service" in line


def test_who_cannot_be_looked_at_lives(tmp_path, groups):
    source = Source()
    group = groups(tmp_path / "shared", source)
    folder, me = group._folder, supervisor(os.getpid())
    with another_worker(tmp_path / "shared") as other:
        with descriptors():
            assert folder.lives(other)
            assert me.lives
            with pytest.raises(OSError, match="Too many"):
                supervisor(os.getpid())
            with pytest.raises(OSError, match="Too many"):
                _ = me.key
            with pytest.raises(OSError, match="Too many"):
                list(folder.workers())
            remove_run(folder.path)
        assert dict(folder.workers()) == {folder.me: True, other: True}
        for left in range(4):
            with descriptors(left):
                group._tidy()
            assert by_worker(group)[other] == Figures(other, b"other", lives=True, stale=False)
    assert source.retired == []
    assert not folder.lives(other)


def test_what_others_left_is_not_swept_away_where_nobody_can_tell(tmp_path):
    base = base_folder(str(tmp_path / "shared"), None)
    run = base / supervisor(os.getppid()).key
    run.mkdir()
    with descriptors(left=1):
        folder_module._sweep(base)
    assert run.exists()


def test_a_task_that_nobody_could_be_asked_about_begins_later(tmp_path, groups, caplog):
    group = groups(tmp_path / "shared")
    group.refresh()
    begun = []
    with descriptors():
        for task in ("port", "probes"):
            group.when_mine(task, lambda task=task: begun.append(task))
        group._tick()
        group._tick()
    assert begun == []
    (line,) = lines(caplog)
    assert "task port" in line
    group._tick()
    assert begun == ["port", "probes"]
    group._tick()
    assert len(begun) == 2


class Rendered:
    """A page that is always the same."""

    outage = Outage()

    def render(self, accept, own=None):
        return b"x 1\n", "text/plain"


def test_a_port_at_which_nobody_can_be_let_in_costs_no_processor():
    address = Address("127.0.0.1", port := free_port())
    stop = serve(Renders(Rendered(), never), address, None, never)
    try:
        with socket.socket() as scraper:
            scraper.settimeout(5)
            with descriptors():
                scraper.connect(("127.0.0.1", port))
                scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                before = time.process_time()
                time.sleep(1)
                assert time.process_time() - before < 0.3
            assert scraper.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        stop()


def test_who_was_let_in_is_answered_though_the_next_one_cannot_be(tmp_path):
    doorbell = Doorbell(tmp_path / "door")
    with ExitStack() as closing:
        closing.callback(doorbell.close)
        bells = [closing.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for bell in bells:
            bell.connect(str(tmp_path / "door"))
        with descriptors():
            assert not doorbell.wait(0.1, never)
        with descriptors(left=1):
            assert doorbell.wait(1, lambda: True)
        bells[0].settimeout(0)
        assert bells[0].recv(1) == b"1"
        assert doorbell.wait(1, lambda: False)
        assert bells[1].recv(1) == b""


def test_an_answer_that_raises_is_none(tmp_path):
    doorbell = Doorbell(tmp_path / "door")
    with ExitStack() as closing:
        closing.callback(doorbell.close)
        bell = closing.enter_context(socket.socket(socket.AF_UNIX))
        bell.connect(str(tmp_path / "door"))
        with pytest.raises(ZeroDivisionError):
            doorbell.wait(1, lambda: 1 // 0)
        assert bell.recv(1) == b""


def test_who_rings_without_a_descriptor_blames_nobody(tmp_path):
    doorbell = Doorbell(tmp_path / "door")
    before = open_files()
    for left in (0, 1):
        with descriptors(left), pytest.raises(OSError, match="Too many"):
            ring({"well": tmp_path / "door"}, 1, lambda: None)
    assert open_files() == before
    doorbell.close()


# What is said


def test_an_outage_that_comes_and_goes_is_said_once_a_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(outage_module, "monotonic", lambda: now[0])
    outage, said = Outage(), []
    for second in range(130):
        now[0] = float(second)
        if outage.begins():
            said.append(second)
        if second != 100:  # then it stays away, and was said
            outage.ends()
    assert said == [0, 60, 120]
    assert not outage.ends()
    assert not outage.begins()
    now[0] = 1000.0
    assert outage.begins()
    now[0] = 2000.0
    assert not outage.begins()  # it lasts
    assert outage.ends()


def test_a_worker_that_does_not_answer_is_named_once_a_minute(
    tmp_path, groups, caplog, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(outage_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(group_module, "ring", lambda doors, *_: set(doors) if hangs else set())
    group = groups(tmp_path / "shared")
    with another_worker(tmp_path / "shared") as other:
        for second in range(90):
            now[0] = float(second)
            hangs = second % 3 == 0
            assert by_worker(group)[other].stale == hangs
        hangs = True
    said = lines(caplog)
    assert len(said) == 2
    assert all(f"worker {other.partition('-')[0]} does not answer" in line for line in said)


def test_a_worker_that_dies_while_it_is_asked_has_nothing_newer(tmp_path, groups, caplog):
    group = groups(tmp_path / "shared")
    with another_worker(tmp_path / "shared") as other:
        pid = int(other.partition("-")[0])
        os.kill(pid, signal.SIGSTOP)
        killing = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        killing.start()
        assert by_worker(group)[other] == Figures(other, b"other", lives=True, stale=False)
        killing.join()
    assert lines(caplog) == []


# Where nothing can be shared


def test_the_first_place_with_room_is_taken_and_all_workers_go_there(disk, tmp_path, monkeypatch):
    other = tmp_path / "other"
    for folder in (other, tmp_path / "temporary"):
        folder.mkdir()
    monkeypatch.setattr(base_folder_module, "_TEMPORARY", (str(other),))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    run = "1-2-3"
    assert base_folder(None, str(disk.path), run) == disk.path / "otel-coach"
    assert base_folder(None, str(disk.path / "missing")).parent == tmp_path / "temporary"
    disk.fill()
    found = base_folder(None, str(disk.path), run)
    assert found == tmp_path / "temporary" / f"otel-coach-{os.getuid()}"
    (found / run).mkdir()
    disk.free()
    assert base_folder(None, str(disk.path), run) == found
    assert base_folder(None, str(disk.path), "4-5-6") == disk.path / "otel-coach"
    found.chmod(0o755)  # what others can write is nobody's place
    assert base_folder(None, str(disk.path), run) == disk.path / "otel-coach"

    def none_usable():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    assert base_folder(None, None).parent == other


def test_the_choice_of_the_user_is_taken_though_it_is_full(disk):
    chosen = base_folder(str(disk.path / "chosen"), None)
    disk.fill()
    assert base_folder(str(chosen), "/run") == chosen


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EMFILE, "Raise the limit of open files"),
        (errno.EFBIG, "Raise the limit of file sizes"),
        (errno.EROFS, "Set OTEL_COACH_SHARED_DIR"),
    ],
)
def test_the_cure_fits(tmp_path, monkeypatch, caplog, number, cure):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    me = supervisor(os.getpid())

    def join():
        assert (
            Group.join(lambda: base_folder(str(tmp_path / "s"), None), me, Source(), never) is None
        )
        (line,) = lines(caplog)
        assert cure in line
        assert os.strerror(number) in line

    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", fail)
        join()
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail)
        join()


def test_who_cannot_be_rung_at_leaves_no_trace_and_the_others_files(tmp_path, monkeypatch, caplog):
    base = base_folder(str(tmp_path / "shared"), None)
    with another_worker(base) as other:
        there = {path.name for path in base.rglob("*")}
        before = open_files()

        class Mute(Doorbell):
            def __init__(self, path):
                super().__init__(path.with_name("no") / "such" / "place")

        monkeypatch.setattr(group_module, "Doorbell", Mute)
        me = supervisor(os.getpid())
        assert Group.join(lambda: base, me, Source(), never) is None
        assert {path.name for path in base.rglob("*")} == there
        assert other + ".lock" in there
        assert open_files() == before
    (line,) = lines(caplog)
    assert "cannot share" in line


def test_a_folder_that_cannot_be_taken_part_in_keeps_no_descriptor(tmp_path, monkeypatch):
    base = base_folder(str(tmp_path / "shared"), None)
    me = supervisor(os.getpid())
    before = open_files()
    for left in range(2):
        with descriptors(left), pytest.raises(OSError, match="Too many"):
            Folder(base, me)
    monkeypatch.setattr(folder_module, "_LONGEST_SOCKET_PATH", 3)
    with pytest.raises(FolderError, match="too long"):
        Folder(base, me)
    assert open_files() == before
    assert not [path for path in base.rglob("*") if not path.is_dir()]


@pytest.fixture
def beginning(monkeypatch):
    """Lets a process begin to serve, as one worker of several."""
    monkeypatch.setattr("otel_coach.serving.pid_of_supervisor", os.getpid)
    with measuring() as measured:

        def begin(folder):
            installed = measured.installation
            settings = Settings(shared_folder=str(folder))
            providers = installed.providers
            serving = Serving(installed.page, installed.renders, providers.recorder, settings)
            serving.begin()
            return serving, installed.page.render("")[0].decode()

        yield begin
        assert measured.page().sum("otel_coach_errors_total") == 0


def test_a_page_of_one_worker_only_says_so(tmp_path, beginning, caplog):
    (tmp_path / "file").write_text("")
    _, page = beginning(tmp_path / "file" / "below")
    last = page.splitlines()[-1]
    assert last.startswith(f"# otel-coach: these are the figures of worker {os.getpid()} only")
    (line,) = lines(caplog)
    assert "cannot share" in line


def test_a_worker_of_which_nobody_can_tell_whose_it_is_says_so(
    tmp_path, beginning, caplog, monkeypatch
):
    def unknown(pid):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("otel_coach.serving.supervisor", unknown)
    _, page = beginning(tmp_path / "shared")
    assert "of worker" in page.splitlines()[-1]
    (line,) = lines(caplog)
    assert "ulimit" in line


def test_a_worker_without_shared_budgets_shares_its_figures(
    tmp_path, beginning, caplog, monkeypatch
):
    def full(self, name):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Group, "shared_log", full)
    serving, page = beginning(tmp_path / "shared")
    assert "only" not in page.splitlines()[-1]
    begun = []
    serving.once_for_all("port", lambda: begun.append(1))
    assert begun == [1]
    assert serving._group.refresh()
    (line,) = lines(caplog)
    assert "budgets" in line
    assert "Free some space" in line
    serving.end()


def test_the_page_names_who_is_behind_and_leaves_out_who_never_wrote(measured):
    page = measured.installation.page
    page.show_all(
        lambda _: [
            Figures("1-a", None, lives=True, stale=True),
            Figures("2-b", written(2), lives=True, stale=True),
            Figures("3-c", written(3), lives=True, stale=False),
        ]
    )
    text = page.render("")[0].decode()
    assert Page(text).sum("orders_total") == 5
    for behind in (1, 2):
        assert f"# otel-coach: worker {behind} does not answer or cannot write" in text
    assert "worker 3" not in text
