"""Measures how much later the service starts, at what cost, and how much more memory it uses."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
import psutil

from otel_coach.core.plugins import has_exporter
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
from verification.bench.variants import (
    BARE,
    OURS,
    OURS_JSON,
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
_SETTLED: Final = 2.0
"""Seconds in which imports in the background end."""
_HAS_JSON: Final = has_exporter("traces", "otlp_json_http")
_VARIANTS: Final = (
    *(BARE, OURS, OURS_RUN, *(OURS_JSON,) * _HAS_JSON),
    *(OURS_METRICS, OURS_OWN_PRICES, STOCK),
)
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


def _started(variant: Variant, folder: Path, endpoint: str) -> _Started:
    before = time.perf_counter()
    with running(variant, folder, endpoint) as service:
        took = time.perf_counter() - before
        time.sleep(_SETTLED)
        used = cpu_clock(service)
        for path in ("/stream", "/stream/in-process", "/health", "/metrics") * 3:
            httpx.get(f"http://127.0.0.1:{service.port}{path}", timeout=10)
        time.sleep(_SETTLED)
        process = psutil.Process(service.process.pid)
        return _Started(took, used, process.memory_full_info().uss / 1e6)


if __name__ == "__main__":
    found, table = measured()
    print(as_markdown(goal.row for goal in found))
    print(as_markdown(table, HEADINGS))
    print(parts())
    sys.exit(0)
