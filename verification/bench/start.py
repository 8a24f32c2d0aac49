"""Measures how much later the service starts, at what cost, and how much more memory it uses."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support import pages
from verification.bench.cold import cpu_clock
from verification.bench.goals import (
    MEMORY,
    MEMORY_METRICS,
    MEMORY_OWN_PRICES,
    START,
    START_CPU,
    Measured,
    as_markdown,
)
from verification.bench.memory import SETTLED, used_by
from verification.bench.variants import (
    BARE,
    OURS,
    OURS_METRICS,
    OURS_OWN_PRICES,
    OURS_RUN,
    STOCK,
    Variant,
    doubles,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDS: Final = 5
_VARIANTS: Final = (BARE, OURS, OURS_RUN, OURS_METRICS, OURS_OWN_PRICES, STOCK)
HEADINGS: Final = ("more than bare", "start-up, s", "start-up, s of CPU", "memory, MB")


class _Started(NamedTuple):
    seconds: float
    """Until it answered for the first time."""
    cpu: float
    """CPU seconds until then, and until what it imports in the background is there."""
    memory: float
    """Its private memory (unique set size) in MB, after some streams and scrapes."""

    def __sub__(self, bare: _Started) -> _Started:
        return _Started(*(own - other for own, other in zip(self, bare, strict=True)))


def measured() -> tuple[list[Measured], list[Sequence[str]]]:
    """Returns the goals, and each variant's row: what it takes more than bare."""
    found: dict[str, list[_Started]] = {variant.name: [] for variant in _VARIANTS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        endpoint = stack.enter_context(doubles())
        for _ in range(_ROUNDS):
            bare = _started(BARE, folder, endpoint)
            for variant in _VARIANTS:
                found[variant.name].append(_started(variant, folder, endpoint) - bare)
    ours, metrics = found[OURS.name], found[OURS_METRICS.name]
    goals = [
        Measured(START, [one.seconds for one in ours]),
        Measured(START_CPU, [one.cpu for one in ours]),
        Measured(MEMORY, [one.memory for one in ours]),
        Measured(MEMORY_METRICS, [one.memory for one in metrics]),
        Measured(MEMORY_OWN_PRICES, [one.memory for one in found[OURS_OWN_PRICES.name]]),
    ]
    rows = [
        (
            "a second bare one" if name == BARE.name else name,
            *(f"{statistics.median(figures):.2f}" for figures in zip(*added, strict=True)),
        )
        for name, added in found.items()
    ]
    return goals, rows


def _started(variant: Variant, folder: Path, endpoint: str) -> _Started:
    before = time.perf_counter()
    with running(variant, folder, endpoint) as service:
        took = time.perf_counter() - before
        time.sleep(SETTLED)
        used = cpu_clock(service)
        return _Started(took, used, used_by(service))


def main() -> int:
    """Prints a row for each variant."""
    parser = argparse.ArgumentParser(prog="python -m verification.bench.start", description=__doc__)
    pages.add_write(parser)
    arguments = parser.parse_args()
    _, rows = measured()
    table = as_markdown(rows, HEADINGS)
    pages.show("bench-start", f"{datetime.now(UTC):%Y-%m-%d}\n\n{table}", arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
