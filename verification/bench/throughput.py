"""Measures the throughput of the bare service and of each variant, alternating in one run.

A round loads one variant after the other, in an order that rotates; the ratio to the bare service
is taken within the round, so that other load on the machine affects both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support import pages
from verification.bench.goals import (
    ALL_ON,
    HEALTH,
    METRICS,
    RATIOS,
    STREAMS,
    STREAMS_IN_PROCESS,
    Measured,
    as_markdown,
    middle_half,
)
from verification.bench.load import Load, loads
from verification.bench.variants import (
    ALL,
    ALONE_WITH_BARE,
    BARE,
    OURS,
    OURS_METRICS,
    PLAIN,
    STANDARD,
    Variant,
    services,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUNDS: Final = 60


@dataclass(frozen=True)
class Target:
    """What is requested under a title."""

    path: str
    answers: int
    """The number of answers that one variant gives before the next one has its turn."""


PATHS: Final = {  # some 0.1 s of work each
    STREAMS: Target("/stream", 8),
    STREAMS_IN_PROCESS: Target("/stream/in-process", 16),
    HEALTH: Target("/health", 400),
}
_HEADINGS: Final = (
    *(
        "",
        "of bare",
        "middle half",
        "answers/s",
        "CPU ms/answer",
        "CPU of bare",
        "busy",
        "client busy",
    ),
)


class Loaded(NamedTuple):
    """The measurements of one variant."""

    load: Load
    used: float
    """CPU seconds of the service, in all rounds and between them."""


@dataclass(frozen=True)
class Run:
    """The measurements of all variants, under one title and one server."""

    title: str
    server: str
    loaded: dict[str, Loaded]

    def ratios(self, name: str) -> list[float]:
        """Returns the variant's throughput relative to the bare service's, by round."""
        ours, bare = self.loaded[name].load.seconds, self.loaded[BARE.name].load.seconds
        return [other / own for own, other in zip(ours, bare, strict=True)]

    @property
    def goals(self) -> Iterator[Measured]:
        """The goals that this run has values for."""
        for kind, variant in ((ALL_ON, OURS), (METRICS, OURS_METRICS)):
            yield Measured(RATIOS[self.title, kind], self.ratios(variant.name), self.server)

    def as_markdown(self) -> str:
        """Returns a table with a row for each variant."""
        answers = PATHS[self.title].answers
        bare = self.loaded[BARE.name].used
        rows: list[Sequence[str]] = []
        for name, (load, used) in self.loaded.items():
            ratios = self.ratios(name)
            took = sum(load.seconds)
            rows.append(
                (
                    name,
                    f"{statistics.median(ratios):.2f}",
                    middle_half(ratios, 2),
                    f"{answers / statistics.median(load.seconds):,.0f}",
                    f"{1000 * used / (answers * len(load.seconds)):.2f}",
                    f"{used / bare:.2f}",
                    f"{used / took:.2f}",
                    f"{load.client / took:.2f}",
                )
            )
        return f"**{self.title}, {self.server}**\n\n{as_markdown(rows, _HEADINGS)}"


def runs(
    rounds: int,
    variants: Sequence[Variant],
    server: str,
    options: Sequence[str],
    titles: Sequence[str] = tuple(PATHS),
) -> Iterator[Run]:
    """Loads all `variants` with each of `titles`; yields the results of each title."""
    with services(variants, options) as started:
        ports = [service.port for service in started]
        for title in titles:
            path, answers = PATHS[title].path, PATHS[title].answers
            loads(path, answers, 2, ports)  # for imports at the first request
            before = [service.cpu() for service in started]
            found = loads(path, answers, rounds, ports)
            used = [service.cpu() - start for service, start in zip(started, before, strict=True)]
            names = [variant.name for variant in variants]
            yield Run(title, server, dict(zip(names, map(Loaded, found, used), strict=True)))


def all_runs(rounds: int) -> Iterator[Run]:
    """Runs all variants with plain uvicorn, and otel-coach beside bare with uvicorn[standard]."""
    yield from runs(rounds, ALL, "uvicorn", PLAIN)
    fast = (STREAMS_IN_PROCESS, HEALTH)
    yield from runs(rounds, ALONE_WITH_BARE, "uvicorn[standard]", STANDARD, fast)


def main() -> int:
    """Prints a table for each path; with `--scale`, for each number of workers too."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.throughput", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--scale", action="store_true", help="with 1, 2 and 4 workers")
    pages.add_write(parser)
    arguments = parser.parse_args()
    tables: list[str] = []
    for run in _scaled(arguments.rounds) if arguments.scale else all_runs(arguments.rounds):
        tables.append(run.as_markdown().strip())
        print(f"{tables[-1]}\n", flush=True)
    if arguments.write:
        target = "bench-scale" if arguments.scale else "bench-throughput"
        pages.write(arguments.write, target, "\n\n".join(tables))
    return 0


def _scaled(rounds: int) -> Iterator[Run]:
    for workers in (1, 2, 4):
        options = [*PLAIN, *(["--workers", str(workers)] if workers > 1 else [])]
        yield from runs(rounds, ALONE_WITH_BARE, f"{workers} worker(s)", options)


if __name__ == "__main__":
    sys.exit(main())
