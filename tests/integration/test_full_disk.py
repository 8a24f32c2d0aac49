"""Disks that are full: nothing falls, nobody is buried alive."""

import errno
import os
import tempfile
import threading
from itertools import count

import httpx
import pytest

from otel_coach.testing import Page
from otel_coach.workers import shared_dir as base_folder_module
from otel_coach.workers.refresh_socket import request_refresh
from otel_coach.workers.shared_dir import base_folder
from otel_coach.workers.worker_metrics import WorkerMetrics
from tests.support.scarcity import Disk, Source, another_worker, by_worker, lines, numbered
from tests.support.waiting import eventually
from verification.soak.clients import Scraper
from verification.soak.servers import SERVERS, running

# What is scarce


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk")
    yield made
    made.unmount()


# A full disk


def test_a_worker_that_cannot_write_shows_what_all_others_read_and_catches_up(disk, groups, caplog):
    group = groups(disk.path / "shared")
    me, file = group._folder.me, group._folder.snapshot(group._folder.me)
    assert by_worker(group)[me] == WorkerMetrics(me, numbered(1), lives=True, stale=False)
    disk.fill()
    for _ in range(3):
        assert by_worker(group)[me] == WorkerMetrics(me, file.read_bytes(), lives=True, stale=True)
    assert file.read_bytes() == numbered(1)
    (line,) = lines(caplog)
    assert "No space left" in line
    assert "Free some space" in line
    disk.free()
    group._tick()  # though nothing changed since it was measured
    assert file.read_bytes() == numbered(5)
    both = numbered(5) + numbered(6)
    assert by_worker(group)[me] == WorkerMetrics(me, both, lives=True, stale=False)
    (line,) = lines(caplog)
    assert "can be written again" in line


def test_a_worker_that_never_wrote_is_on_no_page_and_said_to_be_missing(disk, groups):
    group = groups(disk.path / "shared")
    disk.fill()
    me = group._folder.me
    assert by_worker(group) == {me: WorkerMetrics(me, None, lives=True, stale=True)}


def test_who_asks_a_worker_that_cannot_write_gets_no_answer(disk, groups):
    group = groups(disk.path / "shared")
    sockets = {"me": group._folder.socket(group._folder.me)}

    def silent():
        answering = threading.Thread(target=group._refresh_socket.wait, args=(5, group.refresh))
        answering.start()
        found = request_refresh(sockets, 1, lambda: None)
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
    assert by_worker(group)[other] == WorkerMetrics(other, b"other", lives=False, stale=False)
    disk.free()
    group.refresh()
    group._tidy()
    assert source.retired == [[b"other"]]
    assert by_worker(group)["dead"].content == b"other"


def test_what_is_lost_at_the_end_is_said(disk, groups, caplog):
    group = groups(disk.path / "shared")
    group.refresh()
    disk.fill()
    group.close()
    assert "is lost" in lines(caplog)[-1]


@pytest.mark.long
@pytest.mark.fleet
def test_real_workers_on_a_full_disk_agree_and_are_right_again_after_it(disk):
    if not disk.is_real:
        pytest.skip("only root can mount a small disk")
    shared = {"OTEL_COACH_SHARED_DIR": str(disk.path / "shared")}
    with running(SERVERS["gunicorn"], environment=shared, workers=2) as service:
        eventually(lambda: len(list((disk.path / "shared").rglob("*.snapshot"))) == 2)
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
