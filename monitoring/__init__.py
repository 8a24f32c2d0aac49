"""The dashboard, the recording rules and the alerts: generated from otel_coach/catalogue.py.

A tool for those who work on otel-coach. It writes what is in deploy/; nobody installs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from monitoring.alerts import ALERTS, RECORDS
from monitoring.panel import EACH, SHOWN
from monitoring.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

_STAND_INS: Final = {SHOWN: "1h", "$endpoint": ".+", "$model": ".+"}


def expressions() -> list[tuple[str, str]]:
    """Where each expression is used, and the expression as Prometheus can be asked."""
    return [(place, filled_in(expr)) for place, expr in _all()]


def filled_in(expr: str, *, job: str = ".+", each: str = "1m") -> str:
    """`expr` with what Grafana would put in the place of its variables.

    `job` is a regular expression, `each` the window over which rates are worked out.
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
