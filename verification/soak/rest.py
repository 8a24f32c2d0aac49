"""Checks that at rest all workers return the same page, however often it is scraped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from verification.soak.clients import Users
from verification.soak.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from verification.soak.servers import Running, Server

_QUIET: Final = 1.0
"""Seconds without a request, after which the page may not change any more."""
_SCRAPES: Final = 10
_ATTEMPTS: Final = 20
_MEASURE_TIME: Final = ("process_", "python_gc_", "otel_coach_price_list_age_")
"""Families that change with time or by a scrape."""
_ASKING: Final = 0.3


def differences_at_rest(service: Running) -> list[str]:
    """Returns the lines that are on some but not on all of several pages scraped at rest.

    There is no rest while workers come and go, as after a reload: a worker takes its gauges along.
    Then the pages are scraped again, and if that goes on, one line says so.
    """
    for _ in range(_ATTEMPTS):
        before = _pids(service)
        time.sleep(_QUIET)
        # A new connection for each: any worker may answer.
        pages = [_lines(httpx.get(f"{service.url}/metrics").text) for _ in range(_SCRAPES)]
        counts = Counter(chain.from_iterable(pages))
        found = sorted(line for line, count in counts.items() if count < _SCRAPES)
        if not found:
            return []
        time.sleep(_QUIET)  # a worker that ends has left before its process is gone
        if _pids(service) == before:
            return [f"on {counts[line]} of {_SCRAPES} pages: {line}" for line in found]
    return [f"workers still come and go after {_ATTEMPTS} comparisons"]


def _pids(service: Running) -> set[int]:
    return {worker.pid for worker in service.workers()}


def _lines(text: str) -> set[str]:
    return {
        line
        for line in text.splitlines()
        if not line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(_MEASURE_TIME)
    }


def rest(
    server: Server, rounds: int, *, workers: int = 2, say: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Alternates users' requests with comparisons at rest, while all processors are busy.

    In every tenth round a worker is terminated first. Returns the differences of each round.
    """
    problems: list[str] = []
    with running(server, workers=workers) as service, _load():
        service.wait()
        for number in range(1, rounds + 1):
            if number % 10 == 0:
                victim = service.workers()[number // 10 % workers]
                victim.terminate()
                psutil.wait_procs([victim], timeout=10)
                service.wait()
            with Users(service.url).asking():
                time.sleep(_ASKING)
            found = differences_at_rest(service)
            problems += [f"{server.name}, at rest, round {number}: {line}" for line in found]
            say(f"{server.name}, at rest: {number} of {rounds} rounds, {len(problems)} differences")
    return problems


@contextmanager
def _load() -> Generator[None]:
    """Keeps all processors busy."""
    with ExitStack() as busy:
        for _ in range(psutil.cpu_count() or 1):
            program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            busy.callback(program.wait)
            busy.callback(program.kill)
        yield
