"""Shows which packages use the service's CPU time, with otel-coach and without.

While the service is loaded, py-spy samples the thread that holds the interpreter's lock; each
sample counts for the innermost frame of a known package. The results are shares, because times
would need an otherwise idle machine.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.support.stack import bin_path
from verification.bench.goals import HEALTH, STREAMS_IN_PROCESS, as_markdown
from verification.bench.load import loads
from verification.bench.throughput import PATHS
from verification.bench.variants import ALONE_WITH_BARE, Service, services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SECONDS: Final = 10
_RATE: Final = 300
_OWNERS: Final = {
    "otel-coach": ("otel_coach",),
    "OpenTelemetry's OTLP exporter": (
        *("opentelemetry/exporter", "opentelemetry/proto", "google", "requests", "urllib3"),
    ),
    "OpenTelemetry's API and SDK": ("opentelemetry",),
    "LangChain's dispatch to handlers": ("langchain_core/callbacks",),
    "LangChain and LangGraph": ("langchain_core", "langgraph"),
    "uvicorn, Starlette, FastAPI": ("uvicorn", "h11", "starlette", "fastapi"),
}
"""Packages by owner, in the order in which they are looked for."""
_GARBAGE: Final = "garbage collection"
_OTHERS: Final = "Python and others"


def tables() -> Iterator[str]:
    """Yields a table for /health, and one for streams."""
    with (
        services(ALONE_WITH_BARE) as started,
        TemporaryDirectory(prefix="otel-coach-bench-") as folder,
    ):
        raw = Path(folder) / "profile.raw"
        for title in (HEALTH, STREAMS_IN_PROCESS):
            found = {service.variant.name: _profile(service, title, raw) for service in started}
            yield f"**CPU time by package: {title}**\n\n{_table(found)}"


def _profile(service: Service, title: str, raw: Path) -> dict[str, float]:
    """Returns the share of the samples by owner."""
    command = [bin_path("py-spy"), "record", "--pid", str(service.process.pid), "--gil"]
    command += ["--native", "--full-filenames", "--format", "raw", "--output", str(raw)]
    command += ["--rate", str(_RATE), "--duration", str(_SECONDS)]
    target = PATHS[title]
    loads(target.path, target.answers, 2, [service.port])  # for imports at the first request
    profiling = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    while profiling.poll() is None:
        loads(target.path, target.answers, 4, [service.port])
    if profiling.returncode:
        raise subprocess.CalledProcessError(profiling.returncode, command)
    samples = Counter[str]()
    for line in raw.read_text("utf-8").splitlines():
        frames, _, times = line.rpartition(" ")
        samples[_owner(frames.split(";"))] += int(times)
    return {owner: times / samples.total() for owner, times in samples.items()}


def _owner(frames: Sequence[str]) -> str:
    # The garbage collector runs whenever something is allocated, by any package.
    if any(frame.startswith("gc_collect") for frame in frames):
        return _GARBAGE
    for frame in reversed(frames):
        for owner, packages in _OWNERS.items():
            if any(f"/{package}/" in frame for package in packages):
                return owner
    return _OTHERS


def _table(found: dict[str, dict[str, float]]) -> str:
    rows = [
        (owner, *(f"{shares.get(owner, 0):.1%}" for shares in found.values()))
        for owner in (*_OWNERS, _GARBAGE, _OTHERS)
    ]
    return as_markdown(rows, ["", *found])


if __name__ == "__main__":
    for table in tables():
        print(table, flush=True)
    sys.exit(0)
