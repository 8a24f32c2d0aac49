"""Workers as members of a run: the folder, asking each other, and figures of those that ended."""

import json
import os
import shutil
import threading
import time

import psutil
import pytest

from otel_coach.workers import membership
from otel_coach.workers.append_log import SharedLog
from otel_coach.workers.membership import Membership
from otel_coach.workers.refresh_socket import RefreshSocket, request_refresh
from otel_coach.workers.run_dir import RunDir
from otel_coach.workers.shared_dir import SharedDirError, base_folder
from otel_coach.workers.supervisor import (
    supervisor,
)
from tests.support.faults import never
from tests.support.membership import Source, group_in
from tests.support.waiting import eventually

# The folder


def test_the_folder_is_private_or_refused(tmp_path):
    base = base_folder(str(tmp_path / "mine"), None)
    assert base.stat().st_mode & 0o777 == 0o700
    base.chmod(0o755)
    with pytest.raises(SharedDirError, match="others"):
        base_folder(str(base), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(SharedDirError, match="not a folder"):
        base_folder(str(tmp_path / "file"), None)
    with pytest.raises(SharedDirError, match="cannot be made"):
        base_folder(str(tmp_path / "file" / "below"), None)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "mine")
    with pytest.raises(SharedDirError):
        base_folder(str(link), None)
    assert base_folder(None, str(tmp_path)) == tmp_path / "otel-coach"


def test_a_path_too_long_for_a_socket_is_said_to_be(tmp_path, monkeypatch):
    base = base_folder(str(tmp_path / ("x" * 100)), None)
    assert len(str(RunDir(base, supervisor(os.getpid())).socket("1-a"))) < 50
    elsewhere = "otel_coach.workers.run_dir._short"
    monkeypatch.setattr(elsewhere, lambda path, descriptor: os.close(descriptor) or path)
    with pytest.raises(SharedDirError, match="too long"):
        RunDir(base, supervisor(os.getpid()))


# Asking each other


def test_who_does_not_answer_is_named_and_waited_for_no_longer_than_said(tmp_path):
    socket_path, hung = tmp_path / "socket", tmp_path / "hung"
    asked = []
    refresh_socket, _silent = RefreshSocket(socket_path), RefreshSocket(hung)
    answering = threading.Thread(target=refresh_socket.wait, args=(5, lambda: not asked.append(1)))
    answering.start()
    started = time.monotonic()
    sockets = {"well": socket_path, "hung": hung, "dead": tmp_path / "nobody"}
    assert request_refresh(sockets, 0.3, lambda: None) == {"hung"}
    assert time.monotonic() - started < 4  # the one that is there would wait for 5
    answering.join()
    assert asked == [1]


def test_an_answer_that_came_during_a_long_refresh_of_ones_own_is_read(tmp_path):
    refresh_socket = RefreshSocket(tmp_path / "socket")
    answering = threading.Thread(target=refresh_socket.wait, args=(5, lambda: True))
    answering.start()
    assert request_refresh({"well": tmp_path / "socket"}, 0.5, lambda: time.sleep(0.6)) == set()
    answering.join()
    refresh_socket.close()


# Merging


def test_a_fault_in_the_background_is_counted_and_the_next_tick_tries_again(tmp_path):
    faults, measured = [], []

    def content():
        measured.append(1)
        if len(measured) == 1:
            raise ZeroDivisionError
        return b"figures"

    group = Membership.join(
        lambda: base_folder(str(tmp_path / "shared"), None),
        supervisor(os.getpid()),
        Source(content),
        lambda fault, place: faults.append((type(fault), place)),
    )
    eventually(lambda: len(measured) >= 2)
    assert faults == [(ZeroDivisionError, "Membership")]
    assert [figures.content for figures in group.all_metrics()] == [b"figures"]
    group.close()


def test_a_measurement_that_hangs_keeps_no_worker_from_ending(tmp_path, monkeypatch):
    monkeypatch.setattr(membership, "_MAX_MEASUREMENT", 0.05)
    begun, let = threading.Event(), threading.Event()

    def content():
        begun.set()
        let.wait(60)
        return b"figures"

    group = Membership.join(
        lambda: base_folder(str(tmp_path / "shared"), None),
        supervisor(os.getpid()),
        Source(content),
        never,
    )
    hanging = threading.Thread(target=group.refresh)
    hanging.start()
    assert begun.wait(60)
    assert not group.refresh()
    group.close()
    assert hanging.is_alive()
    let.set()
    hanging.join()


def test_no_file_grows_old_enough_to_be_swept_away(tmp_path):
    folder = RunDir(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    folder.take_task("probes")
    for path in [folder.path, *folder.path.iterdir()]:
        os.utime(path, (1, 1))
    folder.touch()
    assert all(path.stat().st_mtime > 1e9 for path in [folder.path, *folder.path.iterdir()])


def test_the_dead_are_retired_once(tmp_path):
    """Also by who crashed between writing the retired figures and removing the files."""
    source = Source()
    group = group_in(tmp_path / "shared", source)
    folder = group._folder
    for worker in ("1-dead", "2-dead"):
        folder._lock(worker).write_text("")
        folder.snapshot(worker).write_bytes(worker.encode())
    group._fold()
    assert source.retired == [[b"1-dead", b"2-dead"]]
    assert [f.content for f in group.all_metrics()] == [b"own", b"1-dead+2-dead"]
    # As if it had not come to remove them.
    folder._lock("1-dead").write_text("")
    folder.snapshot("1-dead").write_bytes(b"1-dead")
    assert [f.content for f in group.all_metrics()] == [b"own", b"1-dead+2-dead"]
    group._fold()
    assert source.retired[1:] == [[b"1-dead+2-dead"]]
    assert json.loads((folder.path / "dead").read_bytes().partition(b"\n")[0])
    assert [f.content for f in group.all_metrics()] == [b"own", b"1-dead+2-dead"]
    group.close()


def test_workers_that_lived_for_a_moment_are_put_together_by_the_next_one(tmp_path, monkeypatch):
    """Where none lives until its own turn to look for the dead."""
    monkeypatch.setattr(membership, "_TICKS_BETWEEN_FOLDS", 1_000_000)
    base = base_folder(str(tmp_path / "shared"), None)
    folder = RunDir(base, supervisor(os.getpid()))
    for number in range(60):
        folder._lock(f"{number}-dead").write_text("")
        folder.snapshot(f"{number}-dead").write_bytes(b"x")
    source = Source()
    group = Membership.join(lambda: base, supervisor(os.getpid()), source, never)
    eventually(lambda: not list(folder.path.glob("*-dead.*")))
    group.close()
    assert source.retired == [[b"x"] * 60]
    folder.remove()


def test_a_log_that_nobody_uses_any_more_keeps_no_descriptor(tmp_path):
    descriptors = psutil.Process().num_fds
    before = descriptors()
    logs = [SharedLog(tmp_path / "log") for _ in range(3)]
    logs[0].append(b"x")
    assert descriptors() == before + 3
    assert logs[1].new_lines() == [b"x"]
    logs.clear()
    assert descriptors() == before


def test_a_run_whose_folder_was_removed_has_no_page_instead_of_an_empty_one(tmp_path):
    group = group_in(tmp_path / "shared", Source())
    group.refresh()
    assert group.all_metrics()
    shutil.rmtree(tmp_path / "shared")
    with pytest.raises(FileNotFoundError, match="was removed"):
        group.all_metrics()
    group.close()


def test_the_last_worker_of_a_run_writes_nothing_after_it_has_removed_the_folder(
    tmp_path, monkeypatch, caplog
):
    """As when the meter provider is shut down after that: it refreshes the figures once more."""
    group = group_in(tmp_path / "shared", Source())
    monkeypatch.setattr(type(group._supervisor), "lives", False)
    group.close()
    assert not group._folder.path.exists()
    assert not group.refresh()
    assert not caplog.text


def test_without_a_thread_a_worker_does_not_stay_half_in_the_run(tmp_path, monkeypatch, caplog):
    def no_thread(_thread):
        raise RuntimeError("can't start new thread")

    me = supervisor(os.getpid())
    base = base_folder(str(tmp_path / "shared"), None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert Membership.join(lambda: base, me, Source(), never) is None
    assert "can't start new thread" in caplog.text
    assert not [path for path in base.rglob("*") if path.suffix in {".lock", ".sock"}]
