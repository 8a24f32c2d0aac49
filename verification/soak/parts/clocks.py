"""Sets the wall clock: durations, spans, probes and log lines must not be affected."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx

from otel_coach.testing import Page
from tests.support.otlp import Receiver
from tests.support.programs import free_port
from verification.soak.clients import Scraper, Users
from verification.soak.parts import Outcome
from verification.soak.servers import SERVERS, running

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.support.otlp import ReceivedSpan
    from verification.soak.servers import Running

_DAY: Final = 86_400
_MAX_REQUEST: Final = 20.0
"""Seconds: longer than any request on a busy machine, and far shorter than the clock's steps."""
_INTERVAL: Final = 0.3
_MAX_TIME_TO_FALL: Final = 8.0
"""Seconds within which a dependency that is down must be shown as down."""
_SLACK: Final = 50_000
"""Nanoseconds: the precision of a time in seconds as a float."""


def run(seconds: float, seed: int) -> Outcome:
    """Sets the clock again and again for `seconds`, at least once."""
    chance, outcome = random.Random(seed), Outcome()  # noqa: S311 - a plan, no secret
    with ExitStack() as end:
        folder = Path(end.enter_context(TemporaryDirectory(prefix="oc-")))
        receiver = end.enter_context(Receiver())
        clock = _Clock(folder / "ahead")
        database = _Database()
        end.callback(database.close)
        environment = {
            "OTEL_COACH_DEPENDENCIES": f"db=tcp://127.0.0.1:{database.port}",
            "OTEL_COACH_DEPENDENCY_INTERVAL": str(_INTERVAL),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.endpoint}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            # Connections are refused: the exporter tries again, and may log that once a minute.
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{free_port()}/v1/metrics",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
        }
        begun = time.monotonic()
        service = end.enter_context(
            running(SERVERS["gunicorn"], environment=environment, workers=2, clock=clock.file)
        )
        service.wait()
        users, scraper = Users(service.url), Scraper(service.url)
        steps, cut, fell_within = 0, 0, 0.0
        with users.asking():
            deadline = time.monotonic() + seconds
            while not steps or time.monotonic() < deadline:
                for _ in range(20):
                    clock.set(chance.uniform(-_DAY, _DAY))
                    steps += 1
                    time.sleep(0.05)
                with clock.jumping(chance):
                    cut += not _is_whole(f"{service.url}/stream")
                scraper.read()
        for ahead in (_DAY, -_DAY):
            clock.set(ahead)
            fell_within = max(fell_within, _time_to_fall(service, database, lambda: clock.set(0)))
        text = httpx.get(f"{service.url}/metrics").text
        took = time.monotonic() - begun
        outcome.problems += [f"fell: {line}" for line in scraper.fallen]
        _check_durations(Page(text), took, outcome)
        log = service.program.log.read_text()
        lines, killed = log.count("exporting metrics batch"), log.count("WORKER TIMEOUT")
        service.program.stop()
        spans = receiver.spans
    _check_spans(spans, outcome)
    # uvicorn tells by the wall clock when to tell gunicorn that the worker lives, so that a clock
    # that is set back gets it killed, with the streams that it answers.
    outcome.check(f"{cut} streams cut, {killed} workers killed", unless=cut <= killed)
    outcome.check("no span came", unless=len(spans) > 0)
    most_lines = 4 * (1 + took / 60)  # two workers, and two that replaced killed ones
    outcome.check(f"{lines} lines of an exporter", unless=0 < lines <= most_lines)
    outcome.check(f"down after {fell_within:.1f} s", unless=fell_within < _MAX_TIME_TO_FALL)
    outcome.figures = {
        "steps": steps,
        "answers": users.answers(),
        "streams cut": cut,
        "spans": len(spans),
        "falls": len(scraper.fallen),
        "seconds until a dependency is down": round(fell_within, 2),
        "lines of an exporter": lines,
    }
    return outcome


def _is_whole(url: str) -> bool:
    """Returns whether a stream came to its end."""
    try:
        httpx.get(url, params={"pause": 0.05}, timeout=_MAX_REQUEST)
    except httpx.RemoteProtocolError:
        return False
    return True


class _Clock:
    """A file that says how far the service's wall clock is ahead, written by a single write."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()
        self.set(0)

    def set(self, ahead: float) -> None:
        """Sets the clock `ahead` seconds ahead of the machine's."""
        with self.file.open("r+b", buffering=0) as file:
            file.write(f"{ahead:<20.6f}".encode())

    @contextmanager
    def jumping(self, chance: random.Random) -> Generator[None]:
        """Sets the clock all the time, until the block ends."""
        over = threading.Event()

        def jump() -> None:
            while not over.wait(0.03):
                self.set(chance.uniform(-_DAY, _DAY))

        thread = threading.Thread(target=jump)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _Database:
    """A dependency to probe: accepts connections while it is open."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    @staticmethod
    def _accept(listening: socket.socket) -> None:
        try:
            while True:
                listening.accept()[0].close()
        except OSError:
            return

    def close(self) -> None:
        """Refuses connections from now on."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def open(self) -> None:
        """Accepts connections again."""
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._listen()


def _time_to_fall(service: Running, database: _Database, step: Callable[[], None]) -> float:
    """Returns how long a dependency is still shown as up after it ended and the clock was set.

    The worker that probes it is killed too, so that another process makes the next probe.
    """
    service.wait_for_all()
    _until(service, 1)
    prober = service.holder("probes.task")
    database.close()
    step()
    prober.kill()
    begun = time.monotonic()
    _until(service, 0)
    took = time.monotonic() - begun
    database.open()
    return took


def _until(service: Running, up: int) -> None:
    deadline = time.monotonic() + 2 * _MAX_TIME_TO_FALL
    while time.monotonic() < deadline:
        try:
            page = Page(httpx.get(f"{service.url}/metrics", timeout=_MAX_REQUEST).text)
        except httpx.HTTPError:
            continue
        if [value for _, value in page.samples("dependency_up")] == [up]:
            return
        time.sleep(0.02)


def _check_durations(page: Page, took: float, outcome: Outcome) -> None:
    for name in (
        "http_server_request_duration_seconds",
        "app_ai_request_duration_seconds",
        "app_ai_time_to_first_chunk_seconds",
        "agent_llm_latency_seconds",
        "dependency_latency_seconds",
    ):
        count, total = page.sum(f"{name}_count"), page.sum(f"{name}_sum")
        outcome.check(f"nothing was measured in {name}", unless=count > 0)
        # At most five requests at a time, and one to spare.
        is_possible = 0 <= total < 6 * took
        outcome.check(f"{name}: {total} s for {count} in {took:.0f} s", unless=is_possible)
        longer = count - page.sum(f"{name}_bucket", le="30.0") if "ai_request" in name else 0
        outcome.check(f"{name}: {longer} took longer than 30 s", unless=not longer)


def _check_spans(spans: list[ReceivedSpan], outcome: Outcome) -> None:
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    for span in spans:
        seconds = (span.end - span.start) / 1e9
        outcome.check(f"{span.name} took {seconds} s", unless=0 <= seconds < _MAX_REQUEST)
        parent = by_id.get((span.trace_id, span.parent_id))
        if parent is not None:
            is_inside = parent.start - _SLACK <= span.start and span.end <= parent.end + _SLACK
            outcome.check(f"{span.name} is not inside of {parent.name}", unless=is_inside)
