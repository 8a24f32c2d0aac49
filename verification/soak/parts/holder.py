"""Stops (SIGSTOP) the worker that holds a lock: the others must answer, no counter may fall."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

import httpx

from otel_coach.testing import Page
from verification.soak.clients import Scraper, Users
from verification.soak.parts import Outcome
from verification.soak.servers import SERVERS, WORKERS, running

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS: Final = "agent_llm_requests_total"
_ASKED: Final = 20
_STOPPED_FOR: Final = 3.0
_MAX_SCRAPE: Final = 2.0


def run(seconds: float, _seed: int) -> Outcome:
    """Stops and resumes the worker for `seconds`, at least once."""
    outcome, rounds, slowest, seen = Outcome(), 0, 0.0, 0
    with socket.create_server(("127.0.0.1", 0)) as database:
        environment = {
            "OTEL_COACH_DEPENDENCIES": f"db=tcp://127.0.0.1:{database.getsockname()[1]}",
            "OTEL_COACH_DEPENDENCY_INTERVAL": "60",
        }
        with running(SERVERS["gunicorn"], environment=environment) as service:
            service.wait()
            scraper = Scraper(service.url)
            deadline = time.monotonic() + seconds
            while not rounds or time.monotonic() < deadline:
                rounds += 1
                with Users(service.url).asking():
                    time.sleep(0.5)
                scraper.read()
                holder = service.holder("probes.task")
                another = next(w for w in service.workers() if w.pid != holder.pid)
                holder.suspend()
                try:
                    another.kill()  # meanwhile, its metrics are added to those of ended workers
                    for seconds_taken in _scrapes(scraper):
                        slowest, seen = max(slowest, seconds_taken), seen + 1
                finally:
                    holder.resume()
                service.wait()
                time.sleep(1)
                pages = [
                    Page(httpx.get(f"{service.url}/metrics").text).sum(_CALLS)
                    for _ in range(2 * WORKERS)
                ]
                outcome.check(f"at rest they differ: {pages}", unless=len({*pages}) == 1)
            outcome.problems += [f"fell: {line}" for line in scraper.fallen]
    outcome.check("nobody could be asked while one was stopped", unless=seen > 0)
    outcome.check(f"a scrape took {slowest:.1f} s", unless=slowest < _MAX_SCRAPE)
    outcome.figures = {
        "rounds": rounds,
        "pages while it was stopped": seen,
        "seconds of the slowest": round(slowest, 2),
        "falls": len(scraper.fallen),
    }
    return outcome


def _scrapes(scraper: Scraper) -> Iterator[float]:
    """Yields the seconds of each scrape, except for those that reach the stopped worker."""
    deadline = time.monotonic() + _STOPPED_FOR
    while time.monotonic() < deadline:
        begun = time.monotonic()
        try:
            scraper.read()
        except httpx.HTTPError:
            continue
        yield time.monotonic() - begun
