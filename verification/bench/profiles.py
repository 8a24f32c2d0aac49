"""Shows where the CPU time goes that a request takes more, when the service is rarely busy.

Requests go to the bare service and to those with otel-coach in turns, as in `cold`, while py-spy
looks at the thread that holds the interpreter's lock; each sample counts for the innermost frame of
a known package. The shares are multiplied by the CPU time of a request, so that the rows add up:
what the kernel takes is thus divided among all rows.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.support import pages
from tests.support.stack import bin_path
from verification.bench import memory
from verification.bench.cold import APART, SLICES, WARM_UP, cpu_clock
from verification.bench.goals import ALL_ON, METRICS, as_markdown
from verification.bench.load import Client
from verification.bench.variants import BARE, OURS, OURS_METRICS, services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verification.bench.throughput import Target
    from verification.bench.variants import Service

    _Times = dict[str, float]

_SECONDS: Final = 60
_RATE: Final = 211
_ROOMS: Final = {
    "otel-coach: requests": ("otel_coach/instrumentors/asgi",),
    "otel-coach: calls and runs": ("otel_coach/instrumentors",),
    "otel-coach: prices": ("otel_coach/pricing",),
    "otel-coach: measurements": ("otel_coach/metrics", "otel_coach/prometheus"),
    "otel-coach: spans": ("otel_coach/sdk",),
    "otel-coach: other rooms": ("otel_coach",),
    "OpenTelemetry's OTLP exporter": (
        *("opentelemetry/exporter", "opentelemetry/proto", "google", "requests", "urllib3"),
    ),
    "OpenTelemetry's API and SDK": ("opentelemetry",),
    "LangChain's dispatch to handlers": ("langchain_core/callbacks", "langchain_core/tracers"),
    "LangChain and LangGraph": ("langchain_core", "langgraph"),
    "uvicorn, Starlette, FastAPI": ("uvicorn", "h11", "starlette", "fastapi"),
}
"""Packages by row, in the order in which they are looked for."""
_GARBAGE: Final = "garbage collection"
_OTHERS: Final = "Python and others"
_ALL: Final = "all"


def tables(seconds: float = _SECONDS) -> Iterator[str]:
    """Yields a table for each kind of request that `cold` measures."""
    with (
        services((BARE, OURS, OURS_METRICS)) as started,
        TemporaryDirectory(prefix="otel-coach-bench-") as folder,
    ):
        for title, asked in SLICES.items():
            found = _profiles(started, asked, seconds, Path(folder))
            yield f"**CPU time, us: {title}, cold**\n\n{_table(found)}"


def _profiles(
    started: Sequence[Service], asked: Target, seconds: float, folder: Path
) -> list[_Times]:
    """Returns, for each service, the CPU seconds of a request by row."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(service.port)) for service in started]

        chance = random.Random(1)  # noqa: S311 - no secret

        def ask_all(number: int) -> None:
            for client in clients[:: -1 if number % 2 else 1]:
                client.ask(asked.path, asked.answers)
                # At random, so that the samples do not fall on the same moments of the requests.
                time.sleep(2 * APART * chance.random())

        for number in range(WARM_UP):
            ask_all(number)
        files = [folder / f"{service.port}.raw" for service in started]
        watching = [
            _watch(service, file, seconds) for service, file in zip(started, files, strict=True)
        ]
        before = [cpu_clock(service) for service in started]
        asked_times = 0
        while any(one.poll() is None for one in watching):
            ask_all(asked_times)
            asked_times += 1
        used = [cpu_clock(service) for service in started]
    for one in watching:
        if one.returncode:
            raise subprocess.CalledProcessError(one.returncode, one.args)
    answers = asked_times * asked.answers
    return [
        {row: share * (end - start) / answers for row, share in _shares(file).items()}
        for file, start, end in zip(files, before, used, strict=True)
    ]


def _watch(service: Service, file: Path, seconds: float) -> subprocess.Popen[bytes]:
    command = [bin_path("py-spy"), "record", "--pid", str(service.process.pid), "--gil"]
    command += ["--native", "--full-filenames", "--format", "raw", "--output", str(file)]
    command += ["--rate", str(_RATE), "--duration", f"{seconds:.0f}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def _shares(file: Path) -> _Times:
    samples = Counter[str]()
    for line in file.read_text("utf-8").splitlines():
        frames, _, times = line.rpartition(" ")
        samples[_row_of(frames.split(";"))] += int(times)
    return {row: times / samples.total() for row, times in samples.items()}


def _row_of(frames: Sequence[str]) -> str:
    # The garbage collector runs whenever something is allocated, by any package.
    if any(frame.startswith("gc_collect") for frame in frames):
        return _GARBAGE
    for frame in reversed(frames):
        for row, packages in _ROOMS.items():
            if any(f"/{package}/" in frame for package in packages):
                return row
    return _OTHERS


def _table(found: Sequence[_Times]) -> str:
    bare, *others = found
    headings = ["", "bare", ALL_ON, "more", METRICS, "more"]
    rows = [*_ROOMS, _GARBAGE, _OTHERS, _ALL]
    for times in found:
        times[_ALL] = sum(times.values())
    return as_markdown([[row, *_cells(row, bare, others)] for row in rows], headings)


def _cells(row: str, bare: _Times, others: Sequence[_Times]) -> Iterator[str]:
    of_bare = bare.get(row, 0)
    yield f"{of_bare * 1e6:.0f}"
    for times in others:
        yield f"{times.get(row, 0) * 1e6:.0f}"
        yield f"{(times.get(row, 0) - of_bare) * 1e6:+.0f}"


def main() -> int:
    """Prints the table of the memory, and those of the CPU time."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.profiles", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each kind of request")
    pages.add_write(parser)
    arguments = parser.parse_args()
    text = "\n\n".join((memory.table(), *tables(arguments.seconds)))
    pages.show("bench-profiles", text, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
