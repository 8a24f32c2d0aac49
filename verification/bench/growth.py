"""Measures whether anything grows over a million requests.

A service with otel-coach (metrics and spans) and the bare service are loaded alternately, without a
pause. After each tenth, the former's memory, the time of a scrape, and the CPU time of a request in
that tenth are taken, the last also relative to the bare service's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Final

import httpx
import psutil

from verification.bench.goals import as_markdown
from verification.bench.load import loads
from verification.bench.variants import BARE, OURS, STANDARD, Service, services

_TENTHS: Final = 10
_TURN: Final = 1000
_HEADINGS: Final = ("requests", "memory, MB", "scrape, ms", "CPU us/request", "of bare")


def main() -> int:
    """Prints a row for each tenth."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.growth", description=__doc__
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with services((BARE, OURS), STANDARD) as started:
        ports = [service.port for service in started]
        loads("/health", 5 * _TURN, 1, ports)
        turns = arguments.requests // _TENTHS // _TURN
        for number in range(1, _TENTHS + 1):
            before = [service.cpu() for service in started]
            loads("/health", _TURN, turns, ports)
            bare, ours = (
                1e6 * (service.cpu() - used) / (turns * _TURN)
                for service, used in zip(started, before, strict=True)
            )
            done = f"{number * turns * _TURN:,}"
            memory, scrape = _memory(started[-1]), _scrape(started[-1])
            rows.append(
                (done, f"{memory:.1f}", f"{scrape:.1f}", f"{ours:.0f}", f"{ours / bare:.2f}")
            )
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    print(as_markdown(rows, _HEADINGS))
    return 0


def _memory(service: Service) -> float:
    time.sleep(6)  # the last batch of spans leaves after five seconds
    return psutil.Process(service.process.pid).memory_full_info().uss / 1e6


def _scrape(service: Service) -> float:
    times: list[float] = []
    with httpx.Client() as client:
        for _ in range(10):
            started = time.perf_counter()
            client.get(f"http://127.0.0.1:{service.port}/metrics").raise_for_status()
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
