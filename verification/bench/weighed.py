"""Measures services with and without optimisations that make the code harder to read, in pairs.

Both services run at the same time. The OTLP encoder is judged by the CPU time of a request with its
span.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING, Final

from tests.support import pages
from verification.bench.goals import as_markdown, middle_half
from verification.bench.load import loads
from verification.bench.variants import OURS, STANDARD, services

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_ANSWERS: Final = 800
_HEADINGS: Final = ("", "with", "without", "without / with", "middle half")


def _encoder(rounds: int) -> Generator[tuple[float, float]]:
    """Yields the CPU milliseconds of a request to /health with its span, with and without it."""
    without = "verification.bench.without:app"
    with services((OURS,), STANDARD) as one, services((OURS,), STANDARD, without) as other:
        pair = (*one, *other)
        loads("/health", _ANSWERS, 2, [service.port for service in pair])
        for _ in range(rounds):
            took: list[float] = []
            for service in pair:
                before = service.cpu()
                loads("/health", _ANSWERS, 1, [service.port])
                time.sleep(0.5)  # for the export of the last spans
                took.append(1000 * (service.cpu() - before) / _ANSWERS)
            yield took[0], took[1]


_WEIGHED: Final = {
    "OTLP encoder: CPU ms of a request with its span": _encoder,
}


def main() -> int:
    """Prints a row for each optimisation."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.weighed", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=10)
    pages.add_write(parser)
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
    pages.show("bench-weighed", table, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
