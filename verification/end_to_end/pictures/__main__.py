"""Takes the pictures of docs/pictures from a real run of the whole stack.

The browser shows the real page of the service, the terminal the real `otel-coach top`. Neither
Grafana nor Jaeger's own pages are needed: the dashboard's panels are filled by their own queries
of Prometheus, and the trace is drawn from Jaeger's answer.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from otel_coach.cli import top
from otel_coach.cli.top.live import Live
from tests.support.programs import ProgramError
from tests.support.users import Users
from verification.end_to_end.backends import Ports
from verification.end_to_end.pictures.board import board
from verification.end_to_end.pictures.browser import Browser
from verification.end_to_end.pictures.waterfall import waterfall
from verification.end_to_end.players import Players
from verification.end_to_end.stack import whole_stack
from verification.end_to_end.tools import ToolError

if TYPE_CHECKING:
    from verification.end_to_end.jaeger import Trace
    from verification.end_to_end.stack import WholeStack

_SCRAPES: Final = 2
"""Seconds between two scrapes."""
_BEFORE, _WITHOUT, _AFTER = 70, 30, 50
"""Seconds with a database, without it, and with it again."""
_COLUMNS, _LINES = 100, 46
"""The size of the terminal."""
_READINGS: Final = 10
"""Seconds that the terminal reads the page."""
_SPANS_ARRIVE: Final = 2


def main() -> int:
    """Returns the exit code: 0, or 2 if a program did not start."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix="otel-coach-pictures-") as temporary:
            _run(Path(temporary), folder)
    except (ProgramError, ToolError) as error:
        print(error)
        return 2
    return 0


def _run(temporary: Path, folder: Path) -> None:
    with (
        whole_stack(temporary, Ports.free(), seconds=_SCRAPES) as stack,
        Browser(temporary, 1560, 1500) as browser,
    ):
        page = f"{stack.service.url}/metrics"
        players = Players(stack.service, seed=1)
        players.start()
        browser.show(page)
        start = time.time()
        print(f"users come and go for {_BEFORE + _WITHOUT + _AFTER} s")
        time.sleep(_BEFORE)
        stack.database.kill()
        time.sleep(_WITHOUT)
        stack.database.start()
        time.sleep(_AFTER)
        browser.picture("body", _told(folder / "browser.png"))
        terminal = asyncio.run(_terminal(page))
        players.stop()
        end = time.time()
        _show(browser, temporary / "terminal.svg", terminal)
        browser.picture("svg", _told(folder / "terminal.png"))
        _show(browser, temporary / "board.html", board(stack.prometheus, start, end, _SCRAPES))
        browser.picture("main", _told(folder / "dashboard.png"))
        _show(browser, temporary / "trace.html", waterfall(_trace(stack)))
        browser.picture("table", _told(folder / "trace.png"))


async def _terminal(page: str) -> str:
    """Returns what `otel-coach top` shows after some readings, as SVG."""
    live = Live(top.read([page]), 1.0)
    async with live.run_test(headless=True, size=(_COLUMNS, _LINES)):
        await asyncio.sleep(_READINGS)
        return live.export_screenshot(title=f"otel-coach top {page}")


def _trace(stack: WholeStack) -> Trace:
    users = Users(stack.service)
    users.chat("[tool:recent_activities] [delay:0.2] [pace:0.02] [tokens:20] How was my week?")
    users.close()
    time.sleep(_SPANS_ARRIVE)
    found = stack.jaeger.traces({"gen_ai.tool.name": "recent_activities"})
    return max(found, key=lambda trace: trace.roots[0].start)


def _show(browser: Browser, path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    browser.show(path.as_uri())


def _told(path: Path) -> Path:
    print(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
