"""Limits each worker's memory (`ulimit -v`) to what it has: all requests must be answered."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Final

import httpx

from otel_coach.testing import Page
from verification.soak.clients import Scraper
from verification.soak.parts import Outcome
from verification.soak.servers import SERVERS, running

if TYPE_CHECKING:
    from verification.soak.servers import Running

_CALLS: Final = "agent_llm_requests_total"
_ASKED: Final = 20
_ROOM: Final = 2 << 20
"""Bytes that a worker may still allocate: too few for the stack of a new thread."""
_OK: Final = 200


def run(seconds: float, _seed: int) -> Outcome:
    """Sets and removes the limit for `seconds`, at least once."""
    outcome, asked, rounds, pages, missing = Outcome(), 0, 0, 0, 0
    with running(SERVERS["gunicorn"], workers=2) as service:
        service.wait()
        scraper = Scraper(service.url)
        deadline = time.monotonic() + seconds
        while not rounds or time.monotonic() < deadline:
            rounds += 1
            asked += _warm_up(service)
            for limited in (True, False):
                _limit(service, limited=limited)
                for path in ("/ask/x", "/stream", "/refuse"):
                    for _ in range(_ASKED):
                        answer = httpx.get(service.url + path)
                        expected = 401 if path == "/refuse" else _OK
                        is_right = answer.status_code == expected
                        outcome.check(f"{path}: {answer.status_code}", unless=is_right)
                        asked += path != "/refuse"
                    try:
                        scraper.read()
                        pages += limited
                    except httpx.HTTPStatusError as error:  # no page is better than a wrong one
                        missing += 1
                        outcome.check(f"a page: {error}", unless=limited)
            shown = Page(httpx.get(f"{service.url}/metrics").text).sum(_CALLS)
            outcome.check(f"{shown} of {asked}", unless=shown == asked)
        outcome.problems += [f"fell: {line}" for line in scraper.fallen]
    outcome.figures = {
        "rounds": rounds,
        "answers": asked,
        "pages at the limit": pages,
        "none at the limit": missing,
        "falls": len(scraper.fallen),
    }
    return outcome


def _warm_up(service: Running) -> int:
    """Makes each worker start the threads that the application needs; returns the answers."""
    asked, met = 0, set[str]()
    while asked < _ASKED or len(met) < service.count:
        answer = httpx.get(f"{service.url}/ask/x")
        met.add(answer.headers["x-worker"])
        asked += answer.status_code == _OK
    return asked


def _limit(service: Running, *, limited: bool) -> None:
    for worker in service.workers():
        _, hard = resource.prlimit(worker.pid, resource.RLIMIT_AS)
        soft = worker.memory_info().vms + _ROOM if limited else hard
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (soft, hard))
