"""However often the page is asked for, it is made for all who wait, and the rest is answered."""

import threading
from http import HTTPStatus

import anyio
import pytest

from otel_coach.prometheus.http import bandwidth as bandwidth_module
from otel_coach.prometheus.http import shared_renders as renders_module
from otel_coach.prometheus.http.http_response import BUSY
from otel_coach.prometheus.http.shared_renders import Renders
from tests.support.faults import never
from tests.support.page_flood import Slow, answered
from tests.support.waiting import eventually


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


def test_without_a_thread_left_the_answer_and_the_log_say_so(renders, monkeypatch, caplog):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    ready = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        tickets = [renders.ask("", "", lambda: ready.append(1)) for _ in range(2)]
    assert ready == [1, 1]
    for ticket in tickets:
        assert ticket.found().status == 503
        assert b"no thread can be started" in ticket.found().body
    assert caplog.text.count("since no thread can be started") == 1
    assert not renders._is_working


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_leaves_waits_no_longer(slow, renders, backend):
    pytest.importorskip(backend)
    from otel_coach.prometheus.http import waiting

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


def test_all_answers_together_go_out_no_faster_than_they_may(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(bandwidth_module, "monotonic", lambda: now[0])
    bandwidth = bandwidth_module.Bandwidth()
    assert bandwidth.reserve(16_000_000) == 0
    for _ in range(1000):  # small answers are work, too
        waited = bandwidth.reserve(100)
    assert waited == pytest.approx(1000 * 65536 / 32e6)
    now[0] += 60
    assert bandwidth.reserve(100) == 0


def test_what_a_client_that_left_had_reserved_is_free_again(monkeypatch):
    monkeypatch.setattr(bandwidth_module, "monotonic", lambda: 1000.0)
    bandwidth = bandwidth_module.Bandwidth()
    bandwidth.reserve(16_000_000)
    for size in (100, 5_000_000) * 1000:
        bandwidth.reserve(size)
        bandwidth.give_back(size)
    assert bandwidth.reserve(100) == pytest.approx(65536 / 32e6)


def test_a_time_of_slow_pages_makes_no_debt_for_later(monkeypatch):
    now = [0.0]

    def passes(seconds):
        now[0] += seconds

    class Hangs(Slow):
        def render(self, accept, own=None):
            passes(2)
            return b"", "text/plain"

    monkeypatch.setattr(renders_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(renders_module, "sleep", passes)
    renders = Renders(Hangs(), never)
    for _ in range(100):
        answered(renders)
        passes(3)
    assert renders._credit >= -1
