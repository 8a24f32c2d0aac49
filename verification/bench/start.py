"""Measures how much later the service starts, and how much more memory it uses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from verification.bench.goals import MEMORY, MEMORY_OWN_PRICES, START, Measured, as_markdown
from verification.bench.variants import (
    BARE,
    OURS,
    OURS_OWN_PRICES,
    STOCK,
    Variant,
    doubles,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDS: Final = 3
_SETTLED: Final = 2.0
"""Seconds after the first streams, in which imports in the background end."""


def measured() -> tuple[list[Measured], list[Sequence[str]]]:
    """Returns the goals, and each variant's row: seconds and megabytes more than bare."""
    variants = (BARE, OURS, OURS_OWN_PRICES, STOCK)
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
        return [own - bare for own, bare in zip(by[variant.name], by[BARE.name], strict=True)]

    goals = [
        Measured(START, added(seconds, OURS)),
        Measured(MEMORY, added(memory, OURS)),
        Measured(MEMORY_OWN_PRICES, added(memory, OURS_OWN_PRICES)),
    ]
    rows = [
        (
            variant.name,
            *(f"{sorted(added(by, variant))[_ROUNDS // 2]:.2f}" for by in (seconds, memory)),
        )
        for variant in (OURS, OURS_OWN_PRICES, STOCK)
    ]
    return goals, rows


_PARTS: Final = {
    "OpenTelemetry's SDK": "opentelemetry.sdk.metrics.export opentelemetry.sdk.trace.export",
    "its exporter for Prometheus": "opentelemetry.exporter.prometheus",
    "its exporter for OTLP": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "its command opentelemetry-instrument": "opentelemetry.instrumentation.auto_instrumentation",
    "otel-coach": "otel_coach.setup.distro otel_coach.instrumentors.langchain.observer "
    "otel_coach.instrumentors.asgi.middleware",
}
"""Modules, in the order in which they are imported into the service."""
_IMPORTING: Final = """
import importlib, json, psutil, sys
import verification.bench.app
used = [psutil.Process().memory_full_info().uss]
for modules in json.loads(sys.argv[1]):
    for module in modules.split():
        importlib.import_module(module)
    used.append(psutil.Process().memory_full_info().uss)
print(json.dumps(used))
"""


def parts() -> str:
    """Returns a table of the memory that each import takes."""
    command = [sys.executable, "-c", _IMPORTING, json.dumps([*_PARTS.values()])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    used: list[int] = json.loads(done.stdout)
    rows = [
        (name, f"{(after - before) / 1e6:.1f}")
        for name, (before, after) in zip(_PARTS, pairwise(used), strict=True)
    ]
    return as_markdown(rows, ("imported into the bare service", "MB"))


def _started(variant: Variant, folder: Path, endpoint: str) -> tuple[float, float]:
    """Returns the seconds until it answered, and its private memory in MB after some streams."""
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
    print(as_markdown(goal.row for goal in found))
    print(as_markdown(table, ("", "s", "MB")))
    print(parts())
    sys.exit(0)
