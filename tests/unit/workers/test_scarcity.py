"""Descriptors that are used up, and folders that nobody can share: nothing falls."""

import errno
import os
import socket
import time
from contextlib import ExitStack

import pytest

from otel_coach.prometheus.http.own_port import Address, serve
from otel_coach.prometheus.http.shared_renders import Renders
from otel_coach.prometheus.snapshot import from_bytes
from otel_coach.settings import Settings, effective
from otel_coach.setup.serving import Serving
from otel_coach.testing import Page, measuring
from otel_coach.workers import log_once as log_once_module
from otel_coach.workers import run_dir as folder_module
from otel_coach.workers.log_once import LogOnce
from otel_coach.workers.membership import Membership
from otel_coach.workers.refresh_socket import RefreshSocket, request_refresh
from otel_coach.workers.run_dir import RunDir
from otel_coach.workers.shared_dir import SharedDirError, base_folder
from otel_coach.workers.supervisor import supervisor
from otel_coach.workers.worker_metrics import WorkerMetrics
from tests.support.faults import never
from tests.support.programs import free_port
from tests.support.scarcity import Source, descriptors, lines, open_files, written

# No descriptors


def test_a_counter_that_could_not_be_read_does_not_vanish(measured):
    local = measured.installation.local_metrics
    before = local.measure(whole=True)
    with descriptors():
        after = local.measure(whole=True)
    for content in before, after:
        ((snapshot,), _) = from_bytes(content)
        assert [part.name for part in snapshot.parts].count("process_cpu_seconds") == 1


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

    cannot_read = LogOnce()

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
    refresh_socket = RefreshSocket(tmp_path / "socket")
    with ExitStack() as closing:
        closing.callback(refresh_socket.close)
        clients = [closing.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for client in clients:
            client.connect(str(tmp_path / "socket"))
        with descriptors():
            assert not refresh_socket.wait(0.1, never)
        with descriptors(left=1):
            assert refresh_socket.wait(1, lambda: True)
        clients[0].settimeout(0)
        assert clients[0].recv(1) == b"1"
        assert refresh_socket.wait(1, lambda: False)
        assert clients[1].recv(1) == b""


def test_an_answer_that_raises_is_none(tmp_path):
    refresh_socket = RefreshSocket(tmp_path / "socket")
    with ExitStack() as closing:
        closing.callback(refresh_socket.close)
        client = closing.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(tmp_path / "socket"))
        with pytest.raises(ZeroDivisionError):
            refresh_socket.wait(1, lambda: 1 // 0)
        assert client.recv(1) == b""


def test_who_asks_without_a_descriptor_blames_nobody(tmp_path):
    refresh_socket = RefreshSocket(tmp_path / "socket")
    before = open_files()
    for left in (0, 1):
        with descriptors(left), pytest.raises(OSError, match="Too many"):
            request_refresh({"well": tmp_path / "socket"}, 1, lambda: None)
    assert open_files() == before
    refresh_socket.close()


# What is said


def test_an_outage_that_comes_and_goes_is_said_once_a_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(log_once_module, "monotonic", lambda: now[0])
    log_once, said = LogOnce(), []
    for second in range(130):
        now[0] = float(second)
        if log_once.begins():
            said.append(second)
        if second != 100:  # then it stays away, and was said
            log_once.ends()
    assert said == [0, 60, 120]
    assert not log_once.ends()
    assert not log_once.begins()
    now[0] = 1000.0
    assert log_once.begins()
    now[0] = 2000.0
    assert not log_once.begins()  # it lasts
    assert log_once.ends()


# Where nothing can be shared


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
            Membership.join(lambda: base_folder(str(tmp_path / "s"), None), me, Source(), never)
            is None
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


def test_a_folder_that_cannot_be_taken_part_in_keeps_no_descriptor(tmp_path, monkeypatch):
    base = base_folder(str(tmp_path / "shared"), None)
    me = supervisor(os.getpid())
    before = open_files()
    for left in range(2):
        with descriptors(left), pytest.raises(OSError, match="Too many"):
            RunDir(base, me)
    monkeypatch.setattr(folder_module, "_MAX_SOCKET_PATH", 3)
    with pytest.raises(SharedDirError, match="too long"):
        RunDir(base, me)
    assert open_files() == before
    assert not [path for path in base.rglob("*") if not path.is_dir()]


@pytest.fixture
def beginning(monkeypatch):
    """Lets a process begin to serve, as one worker of several."""
    monkeypatch.setattr("otel_coach.setup.serving.pid_of_supervisor", os.getpid)
    with measuring() as measured:

        def begin(folder):
            installed = measured.installation
            settings = effective(Settings(shared_folder=str(folder)), {})
            providers = installed.providers
            serving = Serving(
                installed.local_metrics,
                installed.page,
                installed.renders,
                providers.recorder,
                settings,
            )
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

    monkeypatch.setattr("otel_coach.setup.serving.supervisor", unknown)
    _, page = beginning(tmp_path / "shared")
    assert "of worker" in page.splitlines()[-1]
    (line,) = lines(caplog)
    assert "ulimit" in line


def test_a_worker_without_shared_budgets_shares_its_figures(
    tmp_path, beginning, caplog, monkeypatch
):
    def full(self, name):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Membership, "shared_log", full)
    serving, page = beginning(tmp_path / "shared")
    assert "only" not in page.splitlines()[-1]
    begun = []
    serving.once_for_all("port", lambda: begun.append(1))
    assert begun == [1]
    assert serving._membership.refresh()
    (line,) = lines(caplog)
    assert "budgets" in line
    assert "Free some space" in line
    serving.end()


def test_the_page_names_who_is_behind_and_leaves_out_who_never_wrote(measured):
    page = measured.installation.page
    page.show_all(
        lambda _: [
            WorkerMetrics("1-a", None, lives=True, stale=True),
            WorkerMetrics("2-b", written(2), lives=True, stale=True),
            WorkerMetrics("3-c", written(3), lives=True, stale=False),
        ]
    )
    text = page.render("")[0].decode()
    assert Page(text).sum("orders_total") == 5
    for behind in (1, 2):
        assert f"# otel-coach: worker {behind} does not answer or cannot write" in text
    assert "worker 3" not in text
