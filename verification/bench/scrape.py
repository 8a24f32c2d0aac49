"""Measures what a scrape takes, and how much it delays other requests.

Four workers with 2,000 series each are scraped every second while a client requests /health; this
alternates with the same application without otel-coach and without scrapes.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import httpx

from verification.bench.goals import P99, SCRAPE, Measured, as_markdown
from verification.bench.load import Client
from verification.bench.variants import BARE, OURS_METRICS, PLAIN, services

if TYPE_CHECKING:
    from collections.abc import Generator

WORKERS: Final = 4
_ROUNDS: Final = 6
_SECONDS: Final = 5.0
_WARM_UP: Final = 30
_PAUSE: Final = 0.002
"""Seconds between two requests: the service is so idle that only a scrape can delay an answer."""
_APP: Final = "verification.bench.scraped_app:app"


def measured() -> tuple[list[Measured], str]:
    """Returns the goals, and a line about the scrapes of all workers."""
    with services((OURS_METRICS,), PLAIN, _APP) as [alone]:
        single = _scrapes(f"http://127.0.0.1:{alone.port}")
    options = [*PLAIN, "--workers", str(WORKERS)]
    with services((BARE, OURS_METRICS), options, _APP) as [bare, ours]:
        url = f"http://127.0.0.1:{ours.port}"
        time.sleep(8)  # until the slowest worker has started
        four = _scrapes(url)
        added: list[float] = []
        for _ in range(_ROUNDS):
            without = p99(bare.port)
            with Scraping(url):
                added.append(p99(ours.port) - without)
    goals = [Measured(P99, added), Measured(SCRAPE, single)]
    line = (
        f"A scrape of {WORKERS} workers with 2,000 series each takes "
        f"{statistics.median(four):.0f} ms (at most {max(four):.0f})."
    )
    return goals, line


def _scrapes(url: str) -> list[float]:
    """Returns the milliseconds that scrapes take, one after the other."""
    with httpx.Client(timeout=10) as client:
        return [took for _, took in _timed(client, f"{url}/metrics", _WARM_UP + 30)][_WARM_UP:]


def _timed(client: httpx.Client, url: str, times: int) -> Generator[tuple[int, float]]:
    for number in range(times):
        started = time.perf_counter()
        client.get(url).raise_for_status()
        yield number, 1000 * (time.perf_counter() - started)
        time.sleep(0.05)


def p99(port: int) -> float:
    """Returns the p99 of /health in milliseconds, over enough connections to reach all workers.

    The clients are raw sockets: uvicorn's worker processes leave Nagle's algorithm on, with which
    an answer in two pieces waits 40 ms for another client's acknowledgement, and hides the rest.
    """
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(port)) for _ in range(2 * WORKERS)]
        while time.perf_counter() < end:
            for client in clients:
                started = time.perf_counter()
                client.ask("/health", 1)
                times.append(1000 * (time.perf_counter() - started))
                time.sleep(_PAUSE)
    return statistics.quantiles(times, n=100)[98]


class Scraping:
    """Scrapes the page once a second, inside a `with` block."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._done.wait(1):
                client.get(f"{self._url}/metrics").raise_for_status()


if __name__ == "__main__":
    found, scrapes = measured()
    print(as_markdown(goal.row for goal in found))
    print(scrapes)
    sys.exit(0)
