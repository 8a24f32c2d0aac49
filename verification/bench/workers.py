"""Measures what several workers cost each other, by the numbers of label sets and of workers.

Each worker has all label sets. The bare service and the one with otel-coach receive 20 requests a
second, alternately for a route and for /health; then they are only scraped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import httpx

from tests.support import pages
from verification.bench.goals import as_markdown
from verification.bench.variants import BARE, OURS_METRICS, PLAIN, Service, services

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL_SETS: Final = (10, 100, 1000)
_WORKERS: Final = (1, 4, 8, 16)
_REQUESTS_A_SECOND: Final = 20
_SCRAPERS: Final = 10
_HEADINGS: Final = (
    *("workers", "label sets", "samples", "processors more", "/health, bare, ms"),
    *("/health, ms", "scrape, ms", "scrape, gzip, ms", f"{_SCRAPERS} at once, ms", "kept, MB"),
)


def main() -> int:
    """Prints a row for each number of workers and of label sets."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.workers", description=__doc__
    )
    parser.add_argument("--workers", type=int, nargs="*", default=_WORKERS)
    parser.add_argument("--label-sets", type=int, nargs="*", default=_LABEL_SETS)
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of requests")
    pages.add_write(parser)
    arguments = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    for workers in arguments.workers:
        for label_sets in arguments.label_sets:
            rows.append(_row(workers, label_sets, arguments.seconds))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    table = as_markdown(rows, _HEADINGS)
    pages.show("bench-workers", table, arguments.write)
    return 0


def _row(workers: int, label_sets: int, seconds: float) -> tuple[str, ...]:
    options = [*PLAIN, "--workers", str(workers)] if workers > 1 else [*PLAIN]
    os.environ["BENCH_ROUTES"] = str(routes := label_sets - 2)  # beside /health and /metrics
    variants = (BARE, OURS_METRICS)
    with services(variants, options, "verification.bench.full_app:app") as started:
        time.sleep(3 + workers * (1 + label_sets / 300))  # for the slowest worker
        asked = [_asked(service, routes, seconds) for service in started]
        url = f"http://127.0.0.1:{started[1].port}/metrics"
        before = _memory(started[1])
        samples = _samples(url, workers)
        alone = _scrapes(url, 10)
        compressed = _scrapes(url, 10, {"accept-encoding": "gzip"})
        together = _together(url)
        kept = (_memory(started[1]) - before) / workers
    return (
        str(workers),
        str(label_sets),
        f"{samples:,}",
        f"{asked[1][0] - asked[0][0]:.3f}",
        *(f"{statistics.median(waits):.1f}" for _, waits in asked),
        _median_and_worst(alone),
        _median_and_worst(compressed),
        f"{together:.0f}",
        f"{kept / 1e6:.1f}",
    )


def _asked(service: Service, routes: int, seconds: float) -> tuple[float, Sequence[float]]:
    """Returns the processors that the service used, and the milliseconds of /health meanwhile."""
    url = f"http://127.0.0.1:{service.port}"
    waits: list[float] = []
    clients = [httpx.Client(timeout=30) for _ in range(8)]  # enough to reach all workers
    began, cpu = time.perf_counter(), service.cpu()
    number = 0
    while time.perf_counter() - began < seconds:
        number += 1
        client = clients[number % len(clients)]
        if number % 2:
            client.get(f"{url}/route/{number % routes}")
        else:
            asked = time.perf_counter()
            client.get(f"{url}/health")
            waits.append(1000 * (time.perf_counter() - asked))
        time.sleep(max(0.0, began + number / _REQUESTS_A_SECOND - time.perf_counter()))
    used = (service.cpu() - cpu) / (time.perf_counter() - began)
    for client in clients:
        client.close()
    return used, waits


def _samples(url: str, workers: int) -> int:
    """Returns the number of samples on a page, after every worker has rendered one."""
    text = ""
    for _ in range(3 * workers):
        text = httpx.get(url, timeout=60).text
    return sum(not line.startswith("#") for line in text.splitlines())


def _scrapes(url: str, times: int, headers: dict[str, str] | None = None) -> list[float]:
    """Returns the milliseconds of scrapes, each over a new connection and after another request."""
    found: list[float] = []
    for number in range(times):
        httpx.get(f"{url.removesuffix('/metrics')}/route/{number}")
        began = time.perf_counter()
        headers = headers or {"accept-encoding": "identity"}
        httpx.get(url, headers=headers, timeout=60).raise_for_status()
        found.append(1000 * (time.perf_counter() - began))
        time.sleep(1)
    return found


def _together(url: str) -> float:
    """Returns the milliseconds until several scrapers, starting together, have their pages."""
    began = time.perf_counter()
    with ThreadPoolExecutor(_SCRAPERS) as pool:
        for answer in pool.map(lambda _: httpx.get(url, timeout=60), range(_SCRAPERS)):
            answer.raise_for_status()
    return 1000 * (time.perf_counter() - began)


def _memory(service: Service) -> int:
    processes = (service.process, *service.process.children(recursive=True))
    return sum(process.memory_full_info().uss for process in processes)


def _median_and_worst(found: Sequence[float]) -> str:
    return f"{statistics.median(found):.0f} ({max(found):.0f})"


if __name__ == "__main__":
    sys.exit(main())
