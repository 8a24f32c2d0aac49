"""Throughput of the bare service and of each kind of telemetry, alternating in one run.

A round loads one variant after the other, in an order that turns; the ratio to the bare service is
taken within the round, so that what the machine does meanwhile counts for both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from bench.goals import (
    ALL_ON,
    HEALTH,
    METRICS,
    RATIOS,
    STREAMS,
    STREAMS_IN_PROCESS,
    Measured,
    as_markdown,
)
from bench.variants import (
    ALL,
    ALONE_WITH_BARE,
    BARE,
    OURS,
    OURS_METRICS,
    PLAIN,
    STANDARD,
    Service,
    Variant,
    doubles,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CONNECTIONS: Final = 8
_PATHS: Final = {STREAMS: "/stream", STREAMS_IN_PROCESS: "/stream/in-process", HEALTH: "/health"}
_SECONDS: Final = {STREAMS: 2.5}
"""Of load for each variant and round; fewer answers need more time."""
_OTHERWISE: Final = 0.8
_HEADINGS: Final = (
    *("", "of bare", "spread", "answers/s", "CPU ms/answer", "busy", "client busy"),
)


@dataclass
class Loaded:
    """What one variant did, by round."""

    rates: list[float] = field(default_factory=list[float])
    """Answers a second."""
    costs: list[float] = field(default_factory=list[float])
    """CPU milliseconds of the service for one answer."""
    service: list[float] = field(default_factory=list[float])
    """Processors that the service used."""
    client: list[float] = field(default_factory=list[float])
    """Share of a processor that the client used: as long as that is far below 1, it waits."""


@dataclass(frozen=True)
class Run:
    """What was loaded, of which server, by variant."""

    title: str
    server: str
    loaded: dict[str, Loaded]

    def ratios(self, variant: Variant) -> list[float]:
        """Its throughput against the bare service's, by round."""
        ours, bare = self.loaded[variant.name].rates, self.loaded[BARE.name].rates
        return [one / other for one, other in zip(ours, bare, strict=True)]

    @property
    def goals(self) -> Iterator[Measured]:
        """What it says of the goals."""
        for kind, variant in ((ALL_ON, OURS), (METRICS, OURS_METRICS)):
            yield Measured(RATIOS[self.title, kind], self.ratios(variant), self.server)

    def as_markdown(self) -> str:
        """All variants, beside each other."""
        rows: list[Sequence[str]] = []
        for name, loaded in self.loaded.items():
            ratios = self.ratios(Variant(name))
            rows.append(
                (
                    name,
                    f"{statistics.median(ratios):.2f}",
                    f"{min(ratios):.2f} to {max(ratios):.2f}",
                    f"{statistics.median(loaded.rates):,.0f}",
                    f"{statistics.median(loaded.costs):.2f}",
                    f"{statistics.median(loaded.service):.2f}",
                    f"{statistics.median(loaded.client):.2f}",
                )
            )
        return f"**{self.title}, {self.server}**\n\n{as_markdown(rows, _HEADINGS)}"


def runs(
    rounds: int,
    variants: Sequence[Variant],
    server: str,
    options: Sequence[str],
    titles: Sequence[str] = tuple(_PATHS),
) -> Iterator[Run]:
    """Load all `variants` with each of `titles`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        endpoint = stack.enter_context(doubles())
        services = [
            stack.enter_context(running(variant, folder, endpoint, options)) for variant in variants
        ]
        for title in titles:
            path = _PATHS[title]
            for service in services:
                _load(service, path, 0.7)  # what is imported at the first request
            found = {service.variant.name: Loaded() for service in services}
            for number in range(rounds):
                turn = number % len(services)
                for service in services[turn:] + services[:turn]:
                    seconds = _SECONDS.get(title, _OTHERWISE)
                    _measure(service, path, seconds, found[service.variant.name])
            yield Run(title, server, found)


def all_runs(rounds: int) -> Iterator[Run]:
    """With uvicorn as it comes, all variants; with its fast parts, ours beside the bare service."""
    yield from runs(rounds, ALL, "uvicorn", PLAIN)
    fast = (STREAMS_IN_PROCESS, HEALTH)
    yield from runs(rounds, ALONE_WITH_BARE, "uvicorn[standard]", STANDARD, fast)


def _measure(service: Service, path: str, seconds: float, loaded: Loaded) -> None:
    before = service.cpu()
    found = _load(service, path, seconds)
    used = service.cpu() - before
    loaded.rates.append(found["answers"] / found["seconds"])
    loaded.costs.append(1000 * used / found["answers"])
    loaded.service.append(used / found["seconds"])
    loaded.client.append(found["client_cpu"] / found["seconds"])


def _load(service: Service, path: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", str(service.port), path]
    command += [str(_CONNECTIONS), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    """Print a table for each path; with `--scale`, for each number of workers."""
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--scale", action="store_true", help="with 1, 2 and 4 workers")
    arguments = parser.parse_args()
    if not arguments.scale:
        for run in all_runs(arguments.rounds):
            print(run.as_markdown(), flush=True)
        return 0
    for workers in (1, 2, 4):
        options = [*PLAIN, *(["--workers", str(workers)] if workers > 1 else [])]
        found = runs(arguments.rounds, ALONE_WITH_BARE, f"{workers} worker(s)", options)
        for run in found:
            print(run.as_markdown(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
