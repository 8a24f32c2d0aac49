"""The tables in the terminal, which read the pages again and again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.console import Group
from rich.text import Text
from textual.app import App
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from otel_coach.cli import top
from otel_coach.cli.doctor.fetch import shown
from otel_coach.cli.terminal import printable
from otel_coach.cli.top.tables import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_coach.prometheus.overview import Reading

_MARGIN: Final = 2
"""Characters that the scroll bar takes."""
_WINDOW: Final = 60.0
"""Seconds over which rates and quantiles are computed."""


class Live(App[None]):
    """Shows the pages at `urls`, which it reads every `seconds`, until `q` is pressed."""

    BINDINGS: ClassVar[list[Any]] = [
        ("q", "quit", "quit"),
        ("p", "pause", "pause"),
        ("s", "sort", "sort by the next column"),
    ]
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, urls: Sequence[str], first: Reading, seconds: float) -> None:
        super().__init__()
        self._urls = urls
        self._seconds = seconds
        self._readings: deque[Reading] = deque([first])
        self._is_paused = False
        self._sort = 0
        self._problem = ""
        self._is_reading = False
        self._figures = Static()

    def compose(self) -> Any:
        """Yields the widgets."""
        yield VerticalScroll(self._figures)
        yield Footer()

    def on_mount(self) -> None:
        """Starts reading."""
        self._show()
        self.set_interval(self._seconds, self._begin)

    def on_resize(self) -> None:
        """Fits the tables to the terminal."""
        self._show()

    def action_pause(self) -> None:
        """Stops or goes on showing new figures."""
        self._is_paused = not self._is_paused
        self._show()

    def action_sort(self) -> None:
        """Sorts the tables by their next column."""
        self._sort += 1
        self._show()

    def _begin(self) -> None:
        if not self._is_paused and not self._is_reading:  # a page may be slower than the interval
            self._is_reading = True
            self.run_worker(self._read, thread=True)

    def _read(self) -> None:
        """Reads in a thread of its own: a page may be slow."""
        try:
            reading = top.read(self._urls)
        except top.UnreadableError as error:
            self.call_from_thread(self._failed, str(error))
        else:
            self.call_from_thread(self._take, reading)

    def _failed(self, problem: str) -> None:
        self._is_reading = False
        self._problem = printable(problem)
        self._show()

    def _take(self, reading: Reading) -> None:
        self._is_reading = False
        self._problem = ""
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.at - self._readings[1].at >= _WINDOW:  # noqa: PLR2004 - one is kept to compare with
            self._readings.popleft()
        self._show()

    def _show(self) -> None:
        now, first = self._readings[-1], self._readings[0]
        before = None if first is now else first
        seconds = now.at - first.at
        state = self._problem or ("paused" if self._is_paused else "")
        window = (
            f"rates and quantiles of the last {seconds:.0f} s (without new requests: since the "
            "start); quantiles are estimates, from buckets"
            if before
            else "since the start"
        )
        style = "bold red" if self._problem else ""
        head = Text(f"{', '.join(map(shown, self._urls))}: {window}. {state}", style)
        width = self.size.width - _MARGIN
        self._figures.update(Group(head, *tables(now, before, width, sort=self._sort)))
