"""`python -m bench.start`: how much later the service starts, and how much more memory it has."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from bench.goals import MEMORY, START, Measured, as_markdown
from bench.variants import BARE, OURS, STOCK, Variant, doubles, running

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDS: Final = 5
_SETTLED: Final = 2.0
"""Seconds after the first streams, in which what is imported in the background is there."""


def measured() -> tuple[list[Measured], list[Sequence[str]]]:
    """The goals, and rows for all variants: seconds and megabytes more than bare."""
    variants = (BARE, OURS, STOCK)
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    memory: dict[str, list[float]] = {variant.name: [] for variant in variants}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        endpoint = stack.enter_context(doubles())
        for _ in range(_ROUNDS):
            for variant in variants:
                started, used = _started(variant, folder, endpoint)
                seconds[variant.name].append(started)
                memory[variant.name].append(used)

    def added(by: dict[str, list[float]], variant: Variant) -> list[float]:
        return [one - other for one, other in zip(by[variant.name], by[BARE.name], strict=True)]

    goals = [Measured(START, added(seconds, OURS)), Measured(MEMORY, added(memory, OURS))]
    rows = [
        (
            variant.name,
            *(f"{sorted(added(by, variant))[_ROUNDS // 2]:.2f}" for by in (seconds, memory)),
        )
        for variant in (OURS, STOCK)
    ]
    return goals, rows


def _started(variant: Variant, folder: Path, endpoint: str) -> tuple[float, float]:
    """Seconds until it answered, and megabytes of its own when it had streamed."""
    before = time.perf_counter()
    with running(variant, folder, endpoint) as service:
        took = time.perf_counter() - before
        for path in ("/stream", "/stream/in-process", "/health") * 3:
            httpx.get(f"http://127.0.0.1:{service.port}{path}", timeout=10)
        time.sleep(_SETTLED)
        process = psutil.Process(service.process.pid)
        return took, process.memory_full_info().uss / 1e6


if __name__ == "__main__":
    found, table = measured()
    print(as_markdown(one.row for one in found))
    print(as_markdown(table, ("", "s", "MB")))
    sys.exit(0)
