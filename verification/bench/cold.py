"""Measures what a service costs whose requests come one by one, so that its code is cold each time.

Two services are up at once, bare and with telemetry. A slice of requests goes to the one, then to
the other, a moment apart; the CPU clock of each process says what the slice took. What the threads
of telemetry use, whenever they do, is divided among all slices. The bare service is compared with a
second one, too: what that differs by is the error of the method.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.stack import bin_path
from verification.bench.goals import (
    AGENT_ROUTE,
    ALL_ON,
    COLD,
    HEALTH,
    METRICS,
    STREAMS_IN_PROCESS,
    Measured,
    as_markdown,
)
from verification.bench.load import Client
from verification.bench.throughput import Target
from verification.bench.variants import BARE, OURS, OURS_METRICS, services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verification.bench.variants import Service, Variant

ROUNDS: Final = 5
"""Rounds, each with services of its own: where a process's code lies in memory matters, too."""
_PAIRS: Final = 150
WARM_UP: Final = 20
APART: Final = 0.001
"""Seconds between two slices."""
_SETTLED: Final = 1.2
"""Seconds after the last slice, in which a process does what it has put off."""


SLICES: Final = {
    STREAMS_IN_PROCESS: Target("/stream/in-process", 1),
    AGENT_ROUTE: Target("/agent", 1),
    HEALTH: Target("/health", 8),
}
"""What is requested of one service before the other one has its turn."""
_KINDS: Final = {ALL_ON: OURS, METRICS: OURS_METRICS}
_HEADINGS: Final = ("", "of bare", "rounds", "added, us", "of it in the background, us")


@dataclass(frozen=True)
class Compared:
    """A service beside the bare one, in one round; CPU seconds for each slice."""

    bare: float
    other: float
    bare_background: float
    other_background: float

    @property
    def ratio(self) -> float:
        """The CPU time of the bare service in relation to the other's."""
        return (self.bare + self.bare_background) / (self.other + self.other_background)

    @property
    def added(self) -> float:
        """The CPU seconds that a slice takes more."""
        return self.other - self.bare + self.background

    @property
    def background(self) -> float:
        """How many of them the threads of telemetry use."""
        return self.other_background - self.bare_background


def compared(variant: Variant, rounds: int = ROUNDS) -> dict[str, list[Compared]]:
    """Returns the comparisons of `variant` with the bare service, by what is requested."""
    found: dict[str, list[Compared]] = {title: [] for title in SLICES}
    for _ in range(rounds):
        with services((BARE, variant)) as pair:
            for title, asked in SLICES.items():
                found[title].append(_round(pair, asked))
    return found


def _round(pair: Sequence[Service], asked: Target) -> Compared:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(service.port)) for service in pair]
        for _ in range(WARM_UP):
            for client in clients:
                client.ask(asked.path, asked.answers)
        threads = [telemetry_threads(service) for service in pair]
        slices: list[list[float]] = [[] for _ in pair]
        before = [thread_clocks(*which) for which in zip(pair, threads, strict=True)]
        for number in range(_PAIRS):
            turns = list(zip(pair, clients, threads, slices, strict=True))
            for service, client, own, took in turns[:: -1 if number % 2 else 1]:
                start = cpu_clock(service) - thread_clocks(service, own)
                client.ask(asked.path, asked.answers)
                took.append(cpu_clock(service) - thread_clocks(service, own) - start)
                time.sleep(APART)
        time.sleep(_SETTLED)
        background = [
            (thread_clocks(service, own) - start) / _PAIRS
            for service, own, start in zip(pair, threads, before, strict=True)
        ]
        return Compared(*map(statistics.median, slices), *background)


def cpu_clock(service: Service) -> float:
    """Returns the CPU seconds that the service's first process has used so far, to the nanosecond.

    Linux makes the number of a process's clock of its id: `MAKE_PROCESS_CPUCLOCK` of
    linux/posix-timers_types.h, with `CPUCLOCK_SCHED`.
    """
    return time.clock_gettime(~service.process.pid << 3 | 2)


def thread_clocks(service: Service, threads: Sequence[int]) -> float:
    """Returns the CPU seconds that these threads of the service have used so far."""
    tasks = Path(f"/proc/{service.process.pid}/task")
    return sum(int((tasks / f"{one}/schedstat").read_text().split()[0]) for one in threads) / 1e9


def telemetry_threads(service: Service) -> list[int]:
    """Returns the ids of the threads of otel-coach and of OpenTelemetry's SDK."""
    command = [bin_path("py-spy"), "dump", "--json", "--pid", str(service.process.pid)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return [
        thread["os_thread_id"]
        for thread in json.loads(done.stdout)
        if str(thread["thread_name"]).startswith(("otel-coach", "Otel"))
    ]


def measured(rounds: int = ROUNDS) -> tuple[list[Measured], str]:
    """Returns the goals, and a table of all that was compared."""
    goals: list[Measured] = []
    rows: list[Sequence[str]] = []
    for kind, variant in {"bare": BARE, **_KINDS}.items():
        for title, all_rounds in compared(variant, rounds).items():
            ratios = [one.ratio for one in all_rounds]
            if variant is not BARE:
                goals.append(Measured(COLD[title, kind], ratios))
            name = "a second bare one" if variant is BARE else kind
            rows.append((f"{title}, {name}", *_row(all_rounds, ratios)))
    return goals, f"**cold, uvicorn**\n\n{as_markdown(rows, _HEADINGS)}"


def _row(rounds: Sequence[Compared], ratios: Sequence[float]) -> Iterator[str]:
    yield f"{statistics.median(ratios):.2f}"
    yield f"{min(ratios):.2f} to {max(ratios):.2f}"
    yield f"{statistics.median(one.added for one in rounds) * 1e6:.0f}"
    yield f"{statistics.median(one.background for one in rounds) * 1e6:.0f}"


def main() -> int:
    """Prints the goals, and the table."""
    parser = argparse.ArgumentParser(prog="python -m verification.bench.cold", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    goals, table = measured(parser.parse_args().rounds)
    print(as_markdown(goal.row for goal in goals))
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
