"""Rows, panels and queries of the dashboard, independent of Grafana's file format."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from otel_coach.metrics.labels import ENDPOINT, MODEL
from tools.monitoring.promql import JOB, Reader

if TYPE_CHECKING:
    from otel_coach.metrics.catalogue import Metric

EACH: Final = "$__rate_interval"
SHOWN: Final = "$__range"

SERVICE: Final = Reader(((JOB, '=~"$job"'),))
"""Selects the whole service, whichever endpoint and model are chosen on the dashboard."""

CHOSEN: Final = Reader((*SERVICE.filters, (ENDPOINT, '=~"$endpoint"'), (MODEL, '=~"$model"')))


class Look(Enum):
    """How a panel draws its values."""

    LINES = "one line per series"
    STACKED = "stacked areas"
    FIGURE = "one number"
    STATES = "coloured periods of up and down"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` names its series, `exemplars` requests their exemplars too."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `says` is its description, which tells the reader what to conclude from it."""

    title: str
    unit: str
    says: str
    queries: tuple[Query, ...]
    look: Look = Look.LINES
    objective: float | None = None
    """The panel is green from this value up, and red below it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels about one subject."""

    title: str
    panels: tuple[Panel, ...]


def one(expr: str, legend: str) -> tuple[Query, ...]:
    """Returns the queries of a panel that has only one."""
    return (Query(expr, legend),)


def quantiles(metric: Metric) -> tuple[Query, ...]:
    """Returns the queries for p50, p95 and p99 of `metric`.

    Only one of them requests exemplars, because all three would return the same ones.
    """
    return tuple(
        Query(CHOSEN.quantile(share, metric, EACH), f"p{100 * share:g}", exemplars=share == _TAIL)
        for share in (0.5, _TAIL, 0.99)
    )


def tail(metric: Metric, *by: str, exemplars: bool = True) -> tuple[Query, ...]:
    """Returns the query for the 95th percentile by the labels `by`."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return (Query(CHOSEN.quantile(_TAIL, metric, EACH, by=by), legend, exemplars=exemplars),)


_TAIL: Final = 0.95
