"""The dashboard's panels as a page, filled by their own queries."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

from tools.monitoring import filled_in
from tools.monitoring.panel import Look, Panel
from tools.monitoring.rows import ROWS
from verification.end_to_end.backends import JOB
from verification.end_to_end.pictures.charts import Series, colors, lines, states, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verification.end_to_end.prometheus import Prometheus

_FIGURES: Final = (
    "Answered without error",
    "First chunk within 5 s",
    "Aborted by users",
    "Streams open now",
)
_CHARTS: Final = (
    *("AI requests by status", "Time to first chunk", "Tokens"),
    *("USD per hour", "USD per hour for clients that left", "LLM latency"),
    *("Tool latency, p95", "Auth failures by reason", "Dependencies up"),
)
_STYLE: Final = """
body { margin: 0; background: #111217; color: #ccccdc; font: 13px sans-serif; }
main { display: grid; grid-template-columns: repeat(12, 116px); gap: 8px; padding: 12px;
  width: max-content; }
section { background: #181b1f; border: 1px solid #2c3235; border-radius: 3px; padding: 8px; }
h2 { font-size: 13px; font-weight: 600; margin: 0 0 6px; }
.figure { grid-column: span 3; } .chart { grid-column: span 4; }
.figure b { display: block; font-size: 34px; font-weight: 600; text-align: center; }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 12px; margin: 4px 0 0; padding: 0;
  font-size: 11px; color: #9fa7b3; }
i { display: inline-block; width: 12px; height: 3px; margin-right: 5px; vertical-align: middle; }
"""


def board(prometheus: Prometheus, start: float, end: float, step: float) -> str:
    """Returns the page, over the time from `start` to `end` in seconds since the epoch."""
    panels = {panel.title: panel for row in ROWS for panel in row.panels}
    sections = [_figure(prometheus, panels[title], end) for title in _FIGURES]
    sections += [_chart(prometheus, panels[title], start, end, step) for title in _CHARTS]
    return (
        f'<!doctype html><meta charset="utf-8"><style>{_STYLE}</style>'
        f"<main>{''.join(sections)}</main>"
    )


def _figure(prometheus: Prometheus, panel: Panel, end: float) -> str:
    (query,) = panel.queries
    expression = filled_in(query.expr, job=JOB, each="20s")
    values = [points[-1][1] for _, points in prometheus.range(expression, end, end, 1)]
    value = values[0] if values else 0.0
    is_bad = panel.objective is not None and value < panel.objective
    color = "#f2495c" if is_bad else "#73bf69" if panel.objective is not None else "#8ab8ff"
    text = escape(written(value, panel.unit))
    return (
        f'<section class="figure"><h2>{escape(panel.title)}</h2>'
        f'<b style="color: {color}">{text}</b></section>'
    )


def _chart(prometheus: Prometheus, panel: Panel, start: float, end: float, step: float) -> str:
    series = sorted(_series(prometheus, panel, start, end, step), key=lambda one: one.name)
    if panel.look is Look.STATES:
        drawn, legend = states(series, start, end), ""
    else:
        is_stacked = panel.look is Look.STACKED
        drawn = lines(series, panel.unit, start, end, is_stacked=is_stacked)
        legend = "".join(
            f'<li><i style="background: {color}"></i>{escape(one.name)}'
            f" {escape(written(one.last, panel.unit))}</li>"
            for one, color in zip(series, colors([one.name for one in series]), strict=True)
        )
    return (
        f'<section class="chart"><h2>{escape(panel.title)}</h2>{drawn}<ul>{legend}</ul></section>'
    )


def _series(
    prometheus: Prometheus, panel: Panel, start: float, end: float, step: float
) -> Iterator[Series]:
    for query in panel.queries:
        expression = filled_in(query.expr, job=JOB, each="20s")
        for labels, points in prometheus.range(expression, start, end, step):
            yield Series(_legend(query.legend, labels), tuple(points))


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)
