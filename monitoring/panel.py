"""What a dashboard shows, apart from how Grafana is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from monitoring.promql import JOB, Reader
from otel_coach.vocabulary import ENDPOINT, MODEL

if TYPE_CHECKING:
    from otel_coach.catalogue import Metric

EACH: Final = "$__rate_interval"
SHOWN: Final = "$__range"

SERVICE: Final = Reader(((JOB, '=~"$job"'),))
"""The whole service, whatever endpoint and model are chosen."""

CHOSEN: Final = Reader((*SERVICE.filters, (ENDPOINT, '=~"$endpoint"'), (MODEL, '=~"$model"')))


class Look(Enum):
    """How a panel draws its figures."""

    LINES = "one line a series"
    STACKED = "areas upon each other"
    FIGURE = "one number"
    STATES = "coloured stretches of up and down"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` names its series, `exemplars` asks for their traces too."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """`says` tells a reader what to conclude from it."""

    title: str
    unit: str
    says: str
    queries: tuple[Query, ...]
    look: Look = Look.LINES
    objective: float | None = None
    """Green from here on, red below."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels about one thing."""

    title: str
    panels: tuple[Panel, ...]


def one(expr: str, legend: str) -> tuple[Query, ...]:
    """A panel's only query."""
    return (Query(expr, legend),)


def quantiles(metric: Metric) -> tuple[Query, ...]:
    """The median and the tails; the exemplars, which are the same for all three, once."""
    return tuple(
        Query(CHOSEN.quantile(share, metric, EACH), f"p{100 * share:g}", exemplars=share == _TAIL)
        for share in (0.5, _TAIL, 0.99)
    )


def tail(metric: Metric, *by: str, exemplars: bool = True) -> tuple[Query, ...]:
    """The 95th percentile for each value of `by`."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return (Query(CHOSEN.quantile(_TAIL, metric, EACH, by=by), legend, exemplars=exemplars),)


_TAIL: Final = 0.95
