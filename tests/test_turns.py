"""What a scrape changes in the process while it works is the host's again afterwards."""

import gc
import multiprocessing
import sys
import threading

import pytest

from otel_coach.exposition.turns import short_turns


@pytest.fixture
def host():
    before = settings()
    yield before
    sys.setswitchinterval(before[0])
    gc.enable()


def settings():
    return sys.getswitchinterval(), gc.isenabled()


def test_two_threads_that_work_at_once_leave_the_hosts_settings(host):
    inside, leave = threading.Barrier(3), threading.Event()

    def work():
        with short_turns:
            inside.wait(5)
            leave.wait(5)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    turn, collects = settings()
    assert turn < host[0]
    assert not collects
    leave.set()
    for thread in threads:
        thread.join()
    assert settings() == host == (host[0], True)


def test_a_host_without_a_collector_and_with_shorter_turns_keeps_both(host):
    gc.disable()
    sys.setswitchinterval(1e-5)
    chosen = settings()
    with short_turns:
        assert settings() == chosen
    assert settings() == chosen


def test_what_raises_inside_leaves_the_hosts_settings(host):
    with pytest.raises(ZeroDivisionError), short_turns:
        raise ZeroDivisionError
    assert settings() == host


def test_a_child_forked_in_the_middle_has_the_hosts_settings(host):
    with short_turns, multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(settings) == host
    assert settings() == host
