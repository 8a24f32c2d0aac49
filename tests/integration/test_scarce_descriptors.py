"""Other workers that cannot be read, asked or seen for want of descriptors."""

import errno
import os
import signal
import threading

import httpx
import pytest
from fastapi import FastAPI

from otel_coach.prometheus.http.http_response import answer
from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from otel_coach.workers import log_once as log_once_module
from otel_coach.workers import membership as group_module
from otel_coach.workers.membership import Membership
from otel_coach.workers.refresh_socket import RefreshSocket
from otel_coach.workers.run_dir import remove_run
from otel_coach.workers.shared_dir import SharedDirError, base_folder
from otel_coach.workers.supervisor import supervisor
from otel_coach.workers.worker_metrics import WorkerMetrics
from tests.support.faults import never
from tests.support.programs import free_port
from tests.support.scarcity import (
    Source,
    another_worker,
    by_worker,
    descriptors,
    lines,
    open_files,
    written,
)
from tests.support.serving import serving

# No descriptors


def test_there_is_no_page_while_not_all_figures_can_be_read(tmp_path, groups, caplog):
    with measuring() as measured, another_worker(tmp_path / "shared", written(5)):
        page = measured.installation.page
        group = groups(tmp_path / "shared", measured.installation.local_metrics)
        page.show_all(group.all_metrics)
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


def test_a_page_that_cannot_be_read_is_one_line_inside_the_application_and_on_a_port(caplog):
    def nobody(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/run/secret")

    for port in (None, free_port()):
        settings = Settings(metrics_port=port)
        with measuring(settings) as measured, serving(FastAPI()) as client:
            client.get("/")
            page = measured.installation.page
            page.show_all(nobody)
            url = f"http://localhost:{port}/metrics" if port else f"{client.base_url}/metrics"
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
    retired = group._folder.path / "dead"
    for damaged in (b"", b"\x00\x00\n{}", b"5\n{}"):
        retired.write_bytes(damaged)
        with pytest.raises(SharedDirError, match="damaged"):
            group.all_metrics()
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
            assert by_worker(group)[other] == WorkerMetrics(
                other, b"other", lives=True, stale=False
            )
    assert source.retired == []
    assert not folder.lives(other)


# What is said


def test_a_worker_that_does_not_answer_is_named_once_a_minute(
    tmp_path, groups, caplog, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(log_once_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        group_module, "request_refresh", lambda sockets, *_: set(sockets) if hangs else set()
    )
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
        assert by_worker(group)[other] == WorkerMetrics(other, b"other", lives=True, stale=False)
        killing.join()
    assert lines(caplog) == []


# Where nothing can be shared


def test_who_cannot_be_rung_at_leaves_no_trace_and_the_others_files(tmp_path, monkeypatch, caplog):
    base = base_folder(str(tmp_path / "shared"), None)
    with another_worker(base) as other:
        there = {path.name for path in base.rglob("*")}
        before = open_files()

        class Mute(RefreshSocket):
            def __init__(self, path):
                super().__init__(path.with_name("no") / "such" / "place")

        monkeypatch.setattr(group_module, "RefreshSocket", Mute)
        me = supervisor(os.getpid())
        assert Membership.join(lambda: base, me, Source(), never) is None
        assert {path.name for path in base.rglob("*")} == there
        assert other + ".lock" in there
        assert open_files() == before
    (line,) = lines(caplog)
    assert "cannot share" in line
