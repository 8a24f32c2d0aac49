"""However often the page is asked for, it is made for all who wait, and the rest is answered."""

import errno
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack
from http import HTTPStatus

import anyio
import httpx
import pytest
from conftest import eventually, serving
from fastapi import FastAPI

from otel_coach.exposition import bandwidth as bandwidth_module
from otel_coach.exposition import renders as renders_module
from otel_coach.exposition.answer import BUSY
from otel_coach.exposition.endpoint import MetricsEndpoint
from otel_coach.exposition.renders import Renders
from otel_coach.testing import Page, measuring
from otel_coach.workers.outage import Outage

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"


class Slow:
    """A page that is made when it is let."""

    outage = Outage()

    def __init__(self):
        self.made = 0
        self.let = threading.Semaphore(0)
        self.fault = None

    def render(self, accept, own=None):
        assert self.let.acquire(timeout=10)
        self.made += 1
        if self.fault is not None:
            raise self.fault
        return b"page %d %s" % (self.made, accept.encode()), "text/plain"


def never(fault, place):
    raise AssertionError(place) from fault


def answered(renders):
    """What one gets who waits for a page."""
    ready = threading.Event()
    ticket = renders.ask("", "", ready.set)
    assert ready.wait(10)
    return ticket.found()


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def renders(slow, monkeypatch):
    monkeypatch.setattr(renders_module, "_AT_ONCE", 1e9)  # no pauses
    return Renders(slow, never)


class Asked:
    """Some who ask, each with an event of its own."""

    def __init__(self, renders):
        self._renders = renders
        self.tickets = []
        self.ready = []

    def __call__(self, accept="", encoding="", own=None):
        number = len(self.tickets)
        self.tickets.append(None)
        ticket = self._renders.ask(accept, encoding, lambda: self.ready.append(number), own)
        self.tickets[number] = ticket
        return ticket

    def is_ready(self, ticket):
        return self.tickets.index(ticket) in self.ready


def test_a_page_is_made_once_for_all_who_asked_before_it_was_begun(slow, renders):
    asked = Asked(renders)
    first = asked()
    eventually(lambda: not renders._waiting)  # it is being made
    later = [asked() for _ in range(100)]
    other = asked("application/openmetrics-text")
    slow.let.release(3)
    eventually(lambda: len(asked.ready) == 102)
    assert slow.made == 3
    assert first.found().body == b"page 1 "
    # Not the first: it may have been begun before they were answered what they now look for.
    assert {ticket.found().body for ticket in later} == {b"page 2 "}
    assert other.found().body == b"page 3 application/openmetrics-text; version=1.0.0"
    eventually(lambda: not any(t.name == "otel-coach-page" for t in threading.enumerate()))


def test_nothing_is_made_for_clients_that_left(slow, renders):
    asked = Asked(renders)
    asked()
    eventually(lambda: not renders._waiting)
    for _ in range(50):
        asked().is_gone = True
    last = asked("application/openmetrics-text")
    slow.let.release(10)
    eventually(lambda: asked.is_ready(last))
    assert slow.made == 2


def test_who_comes_when_too_many_wait_is_told_to_come_again(slow, renders):
    asked = Asked(renders)
    found = [asked() for _ in range(2000)]
    assert found.count(None) >= 1000
    slow.let.release(10)
    eventually(lambda: all(ticket is None or asked.is_ready(ticket) for ticket in found))
    assert BUSY.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert dict(BUSY.headers)["retry-after"] == "1"
    assert asked() is not None
    slow.let.release()


def test_what_making_a_page_raises_is_raised_where_it_is_waited_for(slow, renders):
    slow.fault = ZeroDivisionError("once")
    slow.let.release()
    with pytest.raises(ZeroDivisionError):
        answered(renders)
    slow.fault = None
    slow.let.release()
    assert answered(renders).status == HTTPStatus.OK


def test_pages_take_a_fifth_of_the_time_where_they_are_asked_for_all_the_time(monkeypatch):
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    class Costly(Slow):
        def render(self, accept, own=None):
            now[0] += 0.1
            self.made += 1
            return b"", "text/plain"

    monkeypatch.setattr(renders_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(renders_module, "sleep", sleep)
    page = Costly()
    renders = Renders(page, never)
    while now[0] < 60:
        answered(renders)
    assert page.made * 0.1 / now[0] == pytest.approx(0.2, abs=0.03)
    assert max(slept) <= 0.5


def test_without_a_thread_left_the_page_is_busy(renders, monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert renders.ask("", "", lambda: None) is None
    assert not renders._is_working


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_leaves_waits_no_longer(slow, renders, backend):
    pytest.importorskip(backend)
    from otel_coach.exposition import waiting

    async def leaves():
        return {"type": "http.disconnect"}

    async def stays():
        await anyio.sleep_forever()

    async def main():
        event, wake = waiting.event()
        assert not await waiting.unless_the_client_leaves(leaves, event.wait)
        threading.Timer(0.05, wake).start()
        assert await waiting.unless_the_client_leaves(stays, event.wait)
        messages = iter([{"type": "http.request"}, {"type": "http.request"}])
        event, wake = waiting.event()
        threading.Timer(0.05, wake).start()

        async def does_not_wait():
            return next(messages)

        assert await waiting.unless_the_client_leaves(does_not_wait, event.wait)

        async def breaks():
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await waiting.unless_the_client_leaves(stays, breaks)

    anyio.run(main, backend=backend)


def test_who_is_one_too_many_gets_an_answer(monkeypatch):
    with measuring() as measured, serving(FastAPI()) as client:
        monkeypatch.setattr(measured.installation.renders, "ask", lambda *_: None)
        answer = client.get("/metrics")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"] == "1"
    assert answer.text.startswith("otel-coach: too many wait")


def test_without_a_descriptor_for_an_import_there_is_an_answer(monkeypatch):
    """The first scrape of a process that has none left."""
    from otel_coach import exposition
    from otel_coach.exposition import waiting

    class NoDescriptor:
        @staticmethod
        def find_spec(name, *_):
            if name == waiting.__name__:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with measuring(), serving(FastAPI()) as client:
        with monkeypatch.context() as patched:
            patched.delitem(sys.modules, waiting.__name__)
            patched.delattr(exposition, "waiting")
            patched.setattr(sys, "meta_path", [NoDescriptor, *sys.meta_path])
            answer = client.get("/metrics")
        assert client.get("/metrics").status_code == HTTPStatus.OK
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert "Too many open files" in answer.text
    assert "ulimit" in answer.text


def test_strangers_who_ask_and_leave_make_no_work_and_others_are_answered():
    """100 at a time on a real socket; their pages would take a minute."""
    app = FastAPI()

    @app.get("/health")
    async def health():
        return "ok"

    with measuring() as measured, serving(app) as client, ExitStack() as sockets:
        page = measured.installation.page
        made, render = [], page.render

        def counted(*arguments):
            made.append(time.monotonic())
            time.sleep(0.3)
            return render(*arguments)

        page.render = counted
        address = ("127.0.0.1", client.base_url.port)
        for _ in range(2):
            strangers = [socket.create_connection(address, 5) for _ in range(100)]
            for stranger in strangers:
                stranger.sendall(REQUEST)
            assert client.get("/health").status_code == HTTPStatus.OK
            for stranger in strangers:
                stranger.close()
        staying = [sockets.enter_context(socket.create_connection(address, 5)) for _ in range(50)]
        for one in staying:
            one.sendall(REQUEST)
        answer = client.get("/metrics")
        assert Page(answer.text).samples("otel_coach_errors_total")
        assert client.get("/health").status_code == HTTPStatus.OK
        for one in staying:
            assert one.recv(12) == b"HTTP/1.1 200"
        assert len(made) <= 8


def test_a_large_page_is_sent_in_pieces():
    """So that a client that does not read keeps little of it in the server's memory."""
    app = FastAPI()
    with measuring() as measured, serving(app) as client:
        counter = measured.installation.providers.meter_provider.get_meter("x").create_counter("c")
        for number in range(900):
            counter.add(1, {"endpoint": f"/{number}" + "x" * 100})
        answer = client.get("/metrics")
        assert len(Page(answer.text).samples("c_total")) > 50
        renders = measured.installation.renders
        sent = []

        async def send(message):
            sent.append(message)

        found = answered(renders)._replace(body=b"x" * 200_000)
        endpoint = MetricsEndpoint(renders, "/metrics", measured.installation.recorder)

        async def receive():
            await anyio.sleep_forever()

        anyio.run(endpoint.send, receive, send, found)
    start, *bodies = sent
    assert dict(start["headers"])[b"content-length"] == b"200000"
    assert b"".join(one["body"] for one in bodies) == b"x" * 200_000
    assert max(len(one["body"]) for one in bodies) <= 1 << 16
    assert [one["more_body"] for one in bodies] == [True, True, True, False]


def test_all_answers_together_go_out_no_faster_than_they_may(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(bandwidth_module, "monotonic", lambda: now[0])
    bandwidth = bandwidth_module.Bandwidth()
    assert bandwidth.seconds_until(16_000_000) == 0
    for _ in range(1000):  # small answers are work, too
        waited = bandwidth.seconds_until(100)
    assert waited == pytest.approx(1000 * 65536 / 32e6)
    now[0] += 60
    assert bandwidth.seconds_until(100) == 0


def test_ten_scrapers_at_once_get_what_was_answered_before_they_asked():
    app = FastAPI()

    @app.get("/health")
    async def health():
        return "ok"

    with measuring(), serving(app) as client:
        for number in range(5):
            client.get("/health")
            found = []

            def scrape(found=found):
                found.append(Page(httpx.get(f"{client.base_url}/metrics").text))

            scrapers = [threading.Thread(target=scrape) for _ in range(10)]
            for scraper in scrapers:
                scraper.start()
            for scraper in scrapers:
                scraper.join()
            counts = {
                page.sum("http_server_request_duration_seconds_count", endpoint="/health")
                for page in found
            }
            assert counts == {number + 1}
