"""`python -m bench.scrape`: what a scrape of four workers costs, and how late it makes their loops.

Beside it, in the same run: the same application without otel-coach, asked for something else.
Each worker has answered a scrape before: the first one imports what later ones have.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx

from demo.programs import ALONE, Program, free_port
from demo.stack import bin_path

if TYPE_CHECKING:
    from collections.abc import Callable

_WORKERS: Final = 4
_SCRAPES: Final = 40
_WARM_UP: Final = 30
_ROOT: Final = Path(__file__).parent.parent


def main() -> int:
    """Exit code 0."""
    scrapes, late = _run(instrumented=True)
    _, bare = _run(instrumented=False)
    median, worst = statistics.median(scrapes), max(scrapes)
    print(f"{_WORKERS} workers, 2,000 series each, {os.cpu_count()} processors, {_SCRAPES} scrapes")
    print(f"scrape: median {median:.0f} ms, worst {worst:.0f} ms")
    print(
        f"event loops late by at most {late:.1f} ms, without otel-coach and scrapes {bare:.1f} ms"
    )
    print(f"                  {late / bare:.1f} times as late as bare, {late - bare:.1f} ms more")
    return 0


def _run(*, instrumented: bool) -> tuple[list[float], float]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["uvicorn", "--workers", str(_WORKERS), "--port", str(port), "bench.scraped_app:app"]
    if instrumented:
        command.insert(0, "opentelemetry-instrument")
    with TemporaryDirectory(prefix="otel-coach-bench-") as folder:
        program = Program(
            [
                bin_path(part) if place < 1 + instrumented else part
                for place, part in enumerate(command)
            ],
            cwd=_ROOT,
            ready=f"{url}/health",
            environment={
                **{key: value for key, value in os.environ.items() if "OTEL_" not in key},
                **ALONE,
                "OTEL_COACH_BUDGET_ENDPOINT": "1000",  # the application's 500 values are meant
                "OTEL_COACH_SHARED_DIR": f"{folder}/shared",
                "PYTHONPATH": str(_ROOT),
            },
            log=Path(folder) / "log",
        )
        try:
            time.sleep(8)
            for _ in range(_WARM_UP):
                httpx.get(f"{url}/metrics", timeout=10)
            _lateness(url)
            took: list[float] = []
            for _ in range(_SCRAPES):
                took.append(_timed(lambda: httpx.get(f"{url}/metrics", timeout=10)))
                time.sleep(0.1)
            return took, 1000 * _lateness(url)
        finally:
            program.stop()


def _timed(what: Callable[[], object]) -> float:
    started = time.perf_counter()
    what()
    return 1000 * (time.perf_counter() - started)


def _lateness(url: str) -> float:
    """Of the latest loop, over all workers."""
    found: dict[float, float] = {}
    for _ in range(200):
        answer = httpx.get(f"{url}/lateness").json()
        found.setdefault(answer["worker"], answer["seconds"])
        if len(found) == _WORKERS:
            break
    return max(found.values())


if __name__ == "__main__":
    sys.exit(main())
