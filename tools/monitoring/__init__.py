"""Generates the dashboard, the recording rules and the alerts from the catalogue of metrics.

A development tool: it writes files below deploy/ and is not part of the installed package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.monitoring.alerts import ALERTS, RECORDS
from tools.monitoring.panel import EACH, SHOWN
from tools.monitoring.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

_STAND_INS: Final = {SHOWN: "1h", "$endpoint": ".+", "$model": ".+"}


def expressions() -> list[tuple[str, str]]:
    """Returns each expression, ready for Prometheus' query API, after the place that uses it."""
    return [(place, filled_in(expr)) for place, expr in _all()]


def filled_in(expr: str, *, job: str = ".+", each: str = "1m") -> str:
    """Returns `expr` with values in place of Grafana's variables.

    `job` is a regular expression, `each` is the window over which rates are calculated.
    """
    for variable, value in {**_STAND_INS, "$job": job, EACH: each}.items():
        expr = expr.replace(variable, value)
    return expr


def _all() -> Iterator[tuple[str, str]]:
    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries:
                yield f"{row.title}: {panel.title}, {query.legend}", query.expr
    for record in RECORDS:
        yield record.name, record.expr
    for alert in ALERTS:
        yield " ".join((alert.name, *alert.labels.values())), alert.expr
