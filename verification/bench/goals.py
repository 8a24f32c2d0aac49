"""The goals, and how far one run has reached them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Better(Enum):
    """Whether a higher or a lower figure is better."""

    HIGHER = "at least"
    LOWER = "at most"


@dataclass(frozen=True)
class Goal:
    """One goal, which is a row of the table."""

    figure: str
    best_peer: str
    limit: float
    better: Better
    unit: str = "of bare"

    def is_met_by(self, value: float) -> bool:
        """Whether `value` reaches the goal."""
        return value >= self.limit if self.better is Better.HIGHER else value <= self.limit


def _ratio(figure: str, peer: str, limit: float) -> Goal:
    return Goal(figure, peer, limit, Better.HIGHER)


def _added(figure: str, peer: str, limit: float, unit: str) -> Goal:
    return Goal(figure, peer, limit, Better.LOWER, unit)


STREAMS: Final = "streams, model over HTTP"
STREAMS_IN_PROCESS: Final = "streams, model in process"
HEALTH: Final = "/health"
AGENT_ROUTE: Final = "agent.invoke in a route"
ALL_ON: Final = "metrics and spans"
METRICS: Final = "metrics"

RATIOS: Final = {
    (STREAMS, ALL_ON): _ratio(f"{STREAMS}, {ALL_ON}", "0.52", 0.95),
    (STREAMS, METRICS): _ratio(f"{STREAMS}, {METRICS}", "0.87", 0.97),
    (STREAMS_IN_PROCESS, ALL_ON): _ratio(f"{STREAMS_IN_PROCESS}, {ALL_ON}", "0.52", 0.95),
    (STREAMS_IN_PROCESS, METRICS): _ratio(f"{STREAMS_IN_PROCESS}, {METRICS}", "0.87", 0.97),
    (HEALTH, ALL_ON): _ratio(f"{HEALTH}, {ALL_ON}", "0.44", 0.80),
    (HEALTH, METRICS): _ratio(f"{HEALTH}, {METRICS}", "0.44", 0.93),
}
"""Goals of the throughput relative to the bare application, by what is requested and what is on."""

COLD: Final = {
    (title, kind): _ratio(f"cold: {title}, {kind}", "-", limit)
    for title, kind, limit in (
        (STREAMS_IN_PROCESS, ALL_ON, 0.92),
        (STREAMS_IN_PROCESS, METRICS, 0.95),
        (AGENT_ROUTE, ALL_ON, 0.90),
        (AGENT_ROUTE, METRICS, 0.94),
        (HEALTH, ALL_ON, 0.88),
        (HEALTH, METRICS, 0.95),
    )
}
"""Goals of the CPU time of a service that is rarely busy, bare in relation to ours."""

CHUNK: Final = _added("added per chunk, model.astream", "4-6", 4, "us")
INVOKE: Final = _added("added per model.invoke", "200", 100, "us")
AGENT: Final = _added("added per agent invoke (2 LLM calls, 1 tool)", "620", 180, "us")
P99: Final = _added("p99 of /health while 4 workers are scraped, added", "-", 2, "ms")
SCRAPE: Final = _added("scrape of 2,000 series", "300", 30, "ms")
START: Final = _added("start-up, added", "0.2", 0.3, "s")
START_CPU: Final = _added("start-up, CPU, added", "-", 0.18, "s")
MEMORY: Final = _added("memory, added", "3", 7, "MB")
MEMORY_METRICS: Final = _added("memory, added, metrics", "3", 5, "MB")
MEMORY_OWN_PRICES: Final = _added("memory, added, with prices of one's own", "3", 7, "MB")


@dataclass(frozen=True)
class Measured:
    """The values that one run measured for a goal, one for each round."""

    goal: Goal
    values: Sequence[float]
    server: str = ""
    """The server, if that matters."""

    @property
    def value(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def row(self) -> tuple[str, ...]:
        """The row of a table."""
        goal, digits = self.goal, 2 if self.goal.unit in {"of bare", "s"} else 1
        return (
            f"{goal.figure}{f' ({self.server})' if self.server else ''}",
            goal.best_peer,
            f"{goal.better.value} {goal.limit:g} {goal.unit}",
            f"{self.value:.{digits}f}",
            middle_half(self.values, digits),
            "met" if goal.is_met_by(self.value) else "falls short",
        )


def middle_half(values: Sequence[float], digits: int) -> str:
    """Returns the two figures between which the middle half of `values` lies."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{low:.{digits}f} to {high:.{digits}f}"


HEADINGS: Final = ("figure", "best peer", "goal", "median", "middle half", "")


def as_markdown(rows: Iterable[Sequence[str]], headings: Sequence[str] = HEADINGS) -> str:
    """Returns a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
