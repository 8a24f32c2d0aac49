"""Measures services with and without optimisations that make the code harder to read, in pairs.

Both services run at the same time. The OTLP encoder is judged by the CPU time of a request with its
span; the switch interval of a scrape by the 99th percentile of /health during scrapes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.support import pages
from verification.bench.goals import as_markdown, middle_half
from verification.bench.load import loads
from verification.bench.scrape import WORKERS, Scraping, p99
from verification.bench.variants import OURS, OURS_METRICS, PLAIN, STANDARD, doubles, running

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from verification.bench.variants import Service, Variant

_ANSWERS: Final = 800
_HEADINGS: Final = ("", "with", "without", "without / with", "middle half")


def _pair(
    stack: ExitStack, variant: Variant, options: Sequence[str], app: str, without: str
) -> list[Service]:
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
    endpoint = stack.enter_context(doubles())
    os.environ["BENCH_WITHOUT"] = without
    apps = (app, "verification.bench.without:app")
    services: list[AbstractContextManager[Service]] = [
        running(variant, folder, endpoint, options, path) for path in apps
    ]
    return [stack.enter_context(service) for service in services]


def _encoder(rounds: int) -> Generator[tuple[float, float]]:
    """Yields the CPU milliseconds of a request to /health with its span, with and without it."""
    with ExitStack() as stack:
        services = _pair(stack, OURS, STANDARD, "verification.bench.app:app", "encoder")
        loads("/health", _ANSWERS, 2, [service.port for service in services])
        for _ in range(rounds):
            took: list[float] = []
            for service in services:
                before = service.cpu()
                loads("/health", _ANSWERS, 1, [service.port])
                time.sleep(0.5)  # for the export of the last spans
                took.append(1000 * (service.cpu() - before) / _ANSWERS)
            yield took[0], took[1]


def _switch_interval(rounds: int) -> Generator[tuple[float, float]]:
    """Yields the 99th percentile of /health during scrapes in milliseconds, with and without it."""
    with ExitStack() as stack:
        options = [*PLAIN, "--workers", str(WORKERS)]
        app = "verification.bench.scraped_app:app"
        services = _pair(stack, OURS_METRICS, options, app, "switch_interval")
        time.sleep(8)  # until the slowest worker has started
        for _ in range(rounds):
            took: list[float] = []
            for service in services:
                url = f"http://127.0.0.1:{service.port}"
                with Scraping(url):
                    took.append(p99(service.port))
            yield took[0], took[1]


_WEIGHED: Final = {
    "OTLP encoder: CPU ms of a request with its span": _encoder,
    "switch interval of a scrape: p99 of /health, ms": _switch_interval,
}


def main() -> int:
    """Prints a row for each optimisation."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.weighed", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write", type=Path, help="a page with two marks, to write between them")
    arguments = parser.parse_args()
    rows: list[Sequence[str]] = []
    for title, weigh in _WEIGHED.items():
        pairs = list(weigh(arguments.rounds))
        ratios = [without / with_it for with_it, without in pairs]
        with_it, without = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append(
            (
                title,
                f"{with_it:.3f}",
                f"{without:.3f}",
                f"{statistics.median(ratios):.2f}",
                middle_half(ratios, 2),
            )
        )
    table = as_markdown(rows, _HEADINGS)
    print(table)
    if arguments.write:
        pages.write(arguments.write, "bench-weighed", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
