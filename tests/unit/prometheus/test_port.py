"""The page's own port, attacked: idle crowds, drips, floods, foreign names, no requests."""

import os
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from otel_coach.prometheus.http import http_server
from otel_coach.prometheus.http.shared_renders import Renders
from otel_coach.settings import Settings
from tests.support.page_port import (
    SCRAPE,
    Rendered,
    ask,
    connect,
    is_hung_up,
    many_files,
    served,
    whole,
)
from tests.support.waiting import eventually


def ours():
    return [one for one in threading.enumerate() if one.name.startswith("otel-coach-p")]


# Crowds


def test_who_asks_is_answered_while_others_hold_all_places_and_come_back_at_once():
    over = threading.Event()

    def hold(port):
        while not over.is_set():
            with suppress(OSError), connect(port, "127.0.0.2") as one:
                one.sendall(b"GET /metrics HTTP/1.1\r\n")
                is_hung_up(one)

    with served() as port, many_files():
        strangers = [threading.Thread(target=hold, args=(port,)) for _ in range(100)]
        for one in strangers:
            one.start()
        try:
            for _ in range(20):
                assert ask(port)[0] == 200
                assert len(ours()) <= 2
        finally:
            over.set()
    for one in strangers:
        one.join(10)


def test_a_scraper_that_waits_for_its_page_keeps_its_place():
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait()

    with served(Rendered(before=slow)) as port, connect(port) as scraper, ExitStack() as held:
        scraper.sendall(SCRAPE)
        assert begun.wait(10)
        crowd = [held.enter_context(connect(port)) for _ in range(200)]
        assert is_hung_up(crowd[0])  # so the others were let in, or wait
        go_on.set()
        assert whole(scraper).startswith(b"HTTP/1.1 200")


def test_as_many_pages_as_are_asked_for_at_once_take_one_thread_also_if_nobody_waits_for_them(
    monkeypatch,
):
    go_on, made, asked = threading.Event(), [], []
    asking = Renders.ask
    monkeypatch.setattr(Renders, "ask", lambda *given: (asking(*given), asked.append(1))[0])

    def slow():
        go_on.wait()
        made.append(1)

    with served(Rendered(before=slow)) as port:
        for _ in range(200):
            with connect(port) as one:
                one.sendall(SCRAPE)
        eventually(lambda: len(asked) == 200)
        assert len(ours()) == 2
        go_on.set()
        assert ask(port)[0] == 200
        assert len(made) <= 3
    eventually(lambda: not ours())


# Those who take their time


@pytest.mark.parametrize("drip", [b"x", b""], ids=["byte by byte", "nothing"])
def test_a_request_that_does_not_end_is_hung_up_on_in_time(monkeypatch, drip):
    monkeypatch.setattr(http_server, "_MAX_ASKING", 0.5)
    with served() as port, connect(port) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nx: ")
        slow.settimeout(0.05)
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 10:
                with suppress(TimeoutError):
                    slow.sendall(drip)
                    if slow.recv(1) == b"":
                        break
        assert 0.4 < time.monotonic() - started < 10


def test_an_answer_that_nobody_takes_is_hung_up_on_in_time(monkeypatch):
    monkeypatch.setattr(http_server, "_MAX_TAKING", 0.5)
    with served(Rendered(os.urandom(64 << 20))) as port, connect(port) as slow:
        slow.sendall(SCRAPE)
        received = slow.recv(100)
        eventually(lambda: len(ours()) == 1)
        time.sleep(1)
        with suppress(ConnectionResetError):
            received += whole(slow)
        assert len(received) < 64 << 20
        assert ask(port, b"HEAD /metrics HTTP/1.0\r\n\r\n")[0] == 200


def test_who_is_answered_and_stays_is_hung_up_on_in_time(monkeypatch):
    monkeypatch.setattr(http_server, "_MAX_LEAVING", 0.3)
    with served() as port, connect(port) as slow:
        slow.sendall(SCRAPE)
        assert whole(slow).endswith(b"x 1\n")
        with suppress(ConnectionError):
            for _ in range(200):
                slow.sendall(b"x")
                time.sleep(0.05)
            pytest.fail("it is listened to for ever")


# What is asked for


def test_a_page_that_fails_is_a_fault_of_ours_and_the_next_scrape_is_answered():
    faults, answers = [], iter([KeyError("a secret"), SystemExit(3), None])

    def fail():
        if (raised := next(answers)) is not None:
            raise raised

    with served(Rendered(before=fail), fault=lambda *of: faults.append(of)) as port:
        for _ in range(2):
            status, _, body = ask(port)
            assert status == 500
            assert b"secret" not in body
        assert ask(port)[0] == 200
    assert [type(fault) for fault, _ in faults] == [KeyError, SystemExit]


def test_stopping_leaves_no_thread_and_no_socket_and_hangs_up():
    with connect_after_stop() as (idle, port):
        assert is_hung_up(idle)
        with pytest.raises(OSError, match="refused"):
            connect(port)
    eventually(lambda: not ours())  # the thread that made the last page ends by itself


@contextmanager
def connect_after_stop():
    with served() as port:
        idle = connect(port)
        assert ask(port)[0] == 200
    with idle:
        yield idle, port


# On both pages


def test_no_token_is_not_an_empty_one():
    assert Settings.from_env({}).metrics_token is None
    assert Settings.from_env({}).problems == ()
