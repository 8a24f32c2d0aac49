"""Shows where the memory goes that the service takes more, in rows that add up."""

from __future__ import annotations

import json
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx

from tests.support.programs import CHOSEN
from verification.bench.goals import ALL_ON, METRICS, as_markdown
from verification.bench.variants import PLAIN, Variant, doubles, running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verification.bench.variants import Service

_ROUNDS: Final = 3
SETTLED: Final = 2.0
"""Seconds in which imports in the background end."""
_PACKAGES: Final = {
    "otel-coach's modules": ("otel_coach",),
    "OpenTelemetry's exporter for OTLP, protobuf": (
        *("opentelemetry.exporter.otlp", "opentelemetry.exporter.http", "opentelemetry.proto"),
        *("google", "gzip", "netrc"),
    ),
    "its exporter for Prometheus, prometheus_client": (
        *("opentelemetry.exporter.prometheus", "prometheus_client"),
        *("wsgiref", "http.server", "timeit"),
    ),
    "its command, packaging": (
        "opentelemetry.instrumentation",
        "opentelemetry.semconv",
        "packaging",
    ),
    "its API and SDK": ("opentelemetry",),
    "wrapt": ("wrapt",),
}
"""Modules by row, in the order in which they are looked for."""
_OTHERS: Final = "other modules"
_SETTING_UP: Final = "made before the first request"
_SERVING: Final = "made for streams and pages"
_ALL: Final = "all"
_BARE: Final = Variant("bare")
_VARIANTS: Final = {
    ALL_ON: Variant(ALL_ON, variables=CHOSEN, sends_spans=True),
    METRICS: Variant(METRICS, variables=CHOSEN),
}


class _Used(NamedTuple):
    """The private memory of a service in MB."""

    modules: Mapping[str, float]
    """What each row's modules took."""
    at_rest: float
    in_use: float


def table() -> str:
    """Returns a table of what takes the memory with otel-coach, less the bare service's."""
    columns: dict[str, list[dict[str, float]]] = {kind: [] for kind in _VARIANTS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        endpoint = stack.enter_context(doubles())
        for _ in range(_ROUNDS):
            bare = _used(_BARE, folder, endpoint)
            for kind, variant in _VARIANTS.items():
                columns[kind].append(_more(bare, _used(variant, folder, endpoint)))
    rows = [
        [
            row,
            *(
                f"{statistics.median(one[row] for one in rounds):.1f}"
                for rounds in columns.values()
            ),
        ]
        for row in (*_PACKAGES, _OTHERS, _SETTING_UP, _SERVING, _ALL)
    ]
    return as_markdown(rows, ["more memory than bare, MB", *columns])


def _used(variant: Variant, folder: Path, endpoint: str) -> _Used:
    file = folder / "imports.json"
    kind = "bare" if variant is _BARE else "instrumented"
    server = ("python", "-m", "verification.bench.imports", str(file), kind, *PLAIN[1:])
    with running(variant, folder, endpoint, server) as service:
        time.sleep(SETTLED)
        at_rest = _private(service)
        in_use = used_by(service)
    found = json.loads(file.read_text("utf-8"))
    modules = dict.fromkeys((*_PACKAGES, _OTHERS), 0.0)
    for module, size in found.items():
        modules[_row_of(module)] += size / 1e6
    return _Used(modules, at_rest, in_use)


def used_by(service: Service) -> float:
    """Returns the private memory of `service` in MB, after some streams and scrapes."""
    for path in ("/stream", "/stream/in-process", "/health", "/metrics") * 3:
        httpx.get(f"http://127.0.0.1:{service.port}{path}", timeout=10)
    time.sleep(SETTLED)
    return _private(service)


def _private(service: Service) -> float:
    return float(service.process.memory_full_info().uss / 1e6)


def _more(bare: _Used, other: _Used) -> dict[str, float]:
    more = {row: size - bare.modules[row] for row, size in other.modules.items()}
    at_rest, in_use = other.at_rest - bare.at_rest, other.in_use - bare.in_use
    return {
        **more,
        _SETTING_UP: at_rest - sum(more.values()),
        _SERVING: in_use - at_rest,
        _ALL: in_use,
    }


def _row_of(module: str) -> str:
    for row, packages in _PACKAGES.items():
        if any(module == package or module.startswith(f"{package}.") for package in packages):
            return row
    return _OTHERS


if __name__ == "__main__":
    print(table())
    sys.exit(0)
