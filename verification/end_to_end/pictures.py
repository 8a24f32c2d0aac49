"""Draws panels of the dashboard, and a trace, from a real run."""

from __future__ import annotations

import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from tests.support.programs import ProgramError
from tests.support.users import CHAT, Users
from tools.monitoring import filled_in
from tools.monitoring.rows import ROWS
from verification.end_to_end.backends import JOB, Ports
from verification.end_to_end.players import Players
from verification.end_to_end.stack import whole_stack
from verification.end_to_end.tools import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.monitoring.panel import Panel
    from verification.end_to_end.jaeger import Trace
    from verification.end_to_end.prometheus import Prometheus

_PANELS: Final = (
    "AI requests by status",
    "Time to first chunk",
    "Tokens",
    "USD per hour",
    "Auth failures by reason",
    "Dependencies up",
)
_SCRAPES: Final = 2
"""Seconds between two scrapes."""
_BEFORE, _WITHOUT, _AFTER = 70, 30, 50
"""Seconds with a database, without it, and with it again."""
_COLORS: Final = {
    "POST": "#4c72b0",
    "invoke_agent": "#8172b3",
    "chat": "#55a868",
    "execute_tool": "#dd8452",
}
_OTHER: Final = "#937860"
_UNITS: Final = {"reqps": "per second", "currencyUSD": "USD", "short": "1 is yes", "s": "seconds"}
"""Grafana's names of units, and their texts in the pictures."""
_NAMES: Final = 190
"""The width of the column with the names of a trace's spans, in points."""


def main() -> int:
    """Returns the exit code: 0, or 2 if a program did not start."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("agg")
    plt.style.use("seaborn-v0_8-whitegrid")
    try:
        with TemporaryDirectory(prefix="otel-coach-pictures-") as temporary:
            _run(Path(temporary), folder)
    except (ProgramError, ToolError) as error:
        print(error)
        return 2
    return 0


def _run(temporary: Path, folder: Path) -> None:
    with whole_stack(temporary, Ports.free(), seconds=_SCRAPES) as stack:
        players = Players(stack.service, seed=1)
        players.start()
        print(f"users come and go for {_BEFORE + _WITHOUT + _AFTER} s")
        time.sleep(_BEFORE)
        stack.database.kill()
        time.sleep(_WITHOUT)
        stack.database.start()
        time.sleep(_AFTER)
        players.stop()
        users = Users(stack.service)
        users.chat("[tool:recent_activities] [delay:0.2] [pace:0.02] [tokens:20] How was my week?")
        users.close()
        _draw_dashboard(stack.prometheus, folder / "dashboard.png")
        time.sleep(2)  # until the spans have arrived
        found = stack.jaeger.traces({"gen_ai.tool.name": "recent_activities"})
        _draw_trace(max(found, key=lambda trace: trace.roots[0].start), folder / "trace.png")


def _draw_dashboard(prometheus: Prometheus, path: Path) -> None:
    panels = {panel.title: panel for row in ROWS for panel in row.panels}
    figure, places = plt.subplots(3, 2, figsize=(11, 8), layout="constrained")
    end = time.time()
    for title, axes in zip(_PANELS, places.flat, strict=True):
        _draw_panel(prometheus, panels[title], axes, end)
    figure.savefig(path, dpi=110)
    print(path)


def _draw_panel(prometheus: Prometheus, panel: Panel, axes: Any, end: float) -> None:
    start = end - _BEFORE - _WITHOUT - _AFTER
    for query in panel.queries:
        expression = filled_in(query.expr, job=JOB, each="20s")
        for labels, points in prometheus.range(expression, start, end, _SCRAPES):
            times = [datetime.fromtimestamp(at, UTC) for at, _ in points]
            axes.plot(times, [value for _, value in points], label=_legend(query.legend, labels))
    unit = _UNITS.get(panel.unit, panel.unit.removeprefix("suffix: "))
    axes.set_title(f"{panel.title}, {unit}", fontsize=10, loc="left")
    locator = AutoDateLocator(minticks=3)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, loc="upper left")


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)


def _draw_trace(trace: Trace, path: Path) -> None:
    rows = list(trace.walk())
    begun = trace.roots[0].start
    figure, axes = plt.subplots(figsize=(11, 0.45 * len(rows) + 0.9), layout="constrained")
    for row, (_, span) in enumerate(rows):
        left, width = (span.start - begun) / 1e3, span.duration / 1e3
        color = _COLORS.get(span.name.split()[0], _OTHER)
        axes.barh(row, width, left=left, color=color, height=0.6)
        axes.text(left + width, row, f" {width:.1f} ms", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), ["    " * depth + span.name for depth, span in rows])
    axes.tick_params(axis="y", pad=_NAMES)
    for name in axes.get_yticklabels():
        name.set_horizontalalignment("left")
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel(f"milliseconds since POST {CHAT} came", fontsize=9)
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
