"""What a scrape changes in the process while it works is the host's again afterwards."""

import gc
import sys
import threading

import pytest

from otel_coach.prometheus.background import in_background
from tests.support.interpreter import settings


def test_two_threads_that_work_at_once_leave_the_hosts_settings(host_settings):
    inside, leave = threading.Barrier(3), threading.Event()

    def work():
        with in_background:
            inside.wait(5)
            leave.wait(5)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    assert sys.getswitchinterval() < host_settings[0]
    leave.set()
    for thread in threads:
        thread.join()
    assert settings() == host_settings


def test_a_host_with_shorter_turns_keeps_them(host_settings):
    sys.setswitchinterval(1e-5)
    chosen = settings()
    with in_background:
        assert settings() == chosen
    assert settings() == chosen


def test_what_the_host_sets_while_a_scrape_works_stays(host_settings):
    with in_background:
        sys.setswitchinterval(0.02)
        gc.disable()
    assert settings() == (pytest.approx(0.02), False)


def test_the_hosts_collector_is_its_own_matter(measured, host_settings):
    gc.disable()
    measured.page()
    assert not gc.isenabled()
    gc.enable()
    collections = []
    gc.callbacks.append(note := lambda phase, _: collections.append(gc.isenabled()))
    try:
        measured.page()
        gc.collect()
    finally:
        gc.callbacks.remove(note)
    assert set(collections) == {True}


def test_what_raises_inside_leaves_the_hosts_settings(host_settings):
    with pytest.raises(ZeroDivisionError), in_background:
        raise ZeroDivisionError
    assert settings() == host_settings
