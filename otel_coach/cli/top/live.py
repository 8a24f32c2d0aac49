"""The tables in the terminal, which read the pages again and again."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.console import Group
from rich.text import Text
from textual.app import App
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from otel_coach.cli import top
from otel_coach.cli.doctor.fetch import shown
from otel_coach.cli.terminal import printable
from otel_coach.cli.top.tables import EVERY_ROW, MAX_ROWS, tables
from otel_coach.configuration.process import process_environment
from otel_coach.core.guard import OwnThread
from otel_coach.prometheus.readings import Interval, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARGIN: Final = 2
"""Characters that the scroll bar takes."""
_WINDOW: Final = 60.0
"""Seconds over which rates and quantiles are computed."""
_SPACING: Final = 5.0
"""Seconds between two readings that are kept; a reading has all samples of a page."""


class Live(App[None]):
    """Shows the pages of `first` until `q` is pressed; reads them again every `seconds`.

    `first` has, by URL, what a page says or why it cannot be read, as `top.read` returns it.
    """

    BINDINGS: ClassVar[list[Any]] = [
        ("q", "quit", "quit"),
        ("p", "pause", "pause"),
        ("s", "sort", "sort by the next column"),
        ("a", "all_rows", "all rows"),
    ]
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, first: Mapping[str, Reading | str], seconds: float) -> None:
        # With NO_COLOR, the terminal's own colours: textual's greys have less contrast.
        has_color = "NO_COLOR" not in process_environment()
        super().__init__(ansi_color=None if has_color else True)  # pyright: ignore[reportArgumentType] - a bool before textual 6
        if not has_color:
            self.theme = next(name for name in self.available_themes if "ansi" in name)
        self._seconds = seconds
        self._readings: dict[str, deque[Reading]] = {url: deque() for url in first}
        self._problems: dict[str, str] = {}
        self._is_paused = False
        self._sort = 0
        self._limit = MAX_ROWS
        self._being_read = set[str]()
        """The URLs whose page is being read; one that is slow does not delay the others."""
        self._figures = Static()
        self._add(first)

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

    def action_all_rows(self) -> None:
        """Shows all rows of the tables, or the first ones again."""
        self._limit = MAX_ROWS if self._limit == EVERY_ROW else EVERY_ROW
        self._show()

    def _begin(self) -> None:
        for url in () if self._is_paused else [*self._readings]:
            if url not in self._being_read:  # a page may be slower than the interval
                self._being_read.add(url)
                OwnThread(partial(self._read, url), "otel-coach-top").start()

    def _read(self, url: str) -> None:
        """Reads in a thread of its own, which nothing waits for: a page may be slow."""
        found = {url: top.read_one(url)}
        if self.is_running:
            with suppress(RuntimeError):  # the program has ended at this moment
                self.call_from_thread(self._take, found)

    def _take(self, found: Mapping[str, Reading | str]) -> None:
        self._being_read.difference_update(found)
        if not self._is_paused:  # it may have been paused while the page was read
            self._add(found)
            self._show()

    def _add(self, found: Mapping[str, Reading | str]) -> None:
        for url, one in found.items():
            if isinstance(one, str):
                self._problems[url] = printable(one)
                continue
            self._problems.pop(url, None)
            readings = self._readings[url]
            readings.append(one)
            if len(readings) > 2 and readings[-2].at - readings[-3].at < _SPACING:  # noqa: PLR2004 - of three, the middle one
                del readings[-2]
            while len(readings) > 2 and one.at - readings[1].at >= _WINDOW:  # noqa: PLR2004 - one is kept to compare with
                readings.popleft()

    def _services(self) -> list[Interval]:
        """Returns the services that can be read; if none can, what was last read of each."""
        read = {url: readings for url, readings in self._readings.items() if readings}
        alive = [readings for url, readings in read.items() if url not in self._problems]
        return [
            Interval(readings[-1], readings[0] if len(readings) > 1 else None)
            for readings in alive or read.values()
        ]

    def _show(self) -> None:
        services = self._services()
        seconds = max(one.seconds for one in services)
        window = (
            f"rates and quantiles of the last {seconds:.0f} s; a quantile without new values is "
            "that since the start. Quantiles are estimates, from buckets"
            if seconds
            else "since the start"
        )
        state = " paused" if self._is_paused else ""
        head = [Text(f"{', '.join(map(shown, self._readings))}: {window}.{state}")]
        left = (
            "The figures are those that were read last"
            if len(self._problems) == len(self._readings)
            else "Its figures are left out"
        )
        head += [Text(f"{left}: {problem}", "bold red") for problem in self._problems.values()]
        width = self.size.width - _MARGIN
        self._figures.update(
            Group(*head, *tables(services, width, sort=self._sort, limit=self._limit))
        )
