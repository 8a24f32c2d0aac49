"""`python -m bench.growth`: whether anything grows over a million requests.

One service under otel-coach, metrics and spans, is loaded without a pause. After each tenth: its
memory, how long a scrape takes, and the CPU time of a request in that tenth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import psutil

from bench.goals import as_markdown
from bench.load import loads
from bench.variants import OURS, STANDARD, Service, doubles, running

_TENTHS: Final = 10
_HEADINGS: Final = ("requests", "memory, MB", "scrape, ms", "CPU us/request")


def main() -> int:
    """Print a row for each tenth."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        endpoint = stack.enter_context(doubles())
        service = stack.enter_context(running(OURS, folder, endpoint, STANDARD))
        loads("/health", 5000, 1, [service.port])
        tenth = arguments.requests // _TENTHS
        for number in range(1, _TENTHS + 1):
            used = service.cpu()
            loads("/health", tenth, 1, [service.port])
            cost = 1e6 * (service.cpu() - used) / tenth
            done = f"{number * tenth:,}"
            rows.append((done, f"{_memory(service):.1f}", f"{_scrape(service):.1f}", f"{cost:.0f}"))
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
