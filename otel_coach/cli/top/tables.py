"""The sections of the overview as tables that fit the terminal.

Nothing is left out where it is narrow: columns that do not fit follow in a further table of the
same rows, and long names are wrapped.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from otel_coach.cli.terminal import printable
from otel_coach.prometheus.overview import SECTIONS, How
from otel_coach.prometheus.readings import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_coach.prometheus.overview import Column, Section
    from otel_coach.prometheus.readings import Interval, Row

    Places = Sequence[tuple[int, Column]]

MAX_ROWS: Final = 12
"""Rows of a table in the terminal, unless all are asked for."""
EVERY_ROW: Final = sys.maxsize
_GAP: Final = 2
"""Characters between two columns."""
_EDGES: Final = 2
_NONE: Final = "-"
_LARGEST_FIRST, _SMALLEST_FIRST = "▼", "▲"
"""Mark the column by which a table is sorted."""
_IN_ASCII: Final = str.maketrans({_LARGEST_FIRST: "v", _SMALLEST_FIRST: "^"})
_CENT, _THOUSAND, _MILLION = 1e-2, 1e3, 1e6


def figure_text(column: Column, value: float) -> str:
    """Returns a figure with its unit, in at most eight characters."""
    if math.isnan(value):
        return _NONE
    if column.how in {How.MEDIAN, How.P95}:
        return _seconds(value)
    if column.is_usd:
        return _usd(value)
    if column.how is How.RATE:
        return f"{value:.2f}" if value < _THOUSAND else _count(value)
    return _count(value)


def _seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < _THOUSAND else f"{value:.0f} s"


def _usd(value: float) -> str:
    if value >= _THOUSAND:
        return _count(value)
    digits = 2 if value == 0 or value >= 1 else 6 if value < _CENT else 4
    return f"{value:.{digits}f}"


def _count(value: float) -> str:
    if value >= _MILLION:
        return f"{value / _MILLION:.1f}M"
    return f"{value / _THOUSAND:.1f}k" if value >= 10 * _THOUSAND else f"{value:g}"


def tables(
    services: Sequence[Interval], width: int, *, sort: int = 0, limit: int = MAX_ROWS
) -> Iterator[Table]:
    """Yields the tables of each section that has something to show, at most `width` wide.

    Each section is sorted by the column with the number `sort`, modulo their count; its title is
    marked. The largest figures come first, but the smallest where those are the bad ones.
    """
    has_rates = any(one.before is not None for one in services)
    for section in SECTIONS:
        places = [
            (place, column)
            for place, column in enumerate(section.columns)
            if has_rates or column.how not in {How.RATE, How.HOURLY}
        ]
        if found := rows(section, services):
            yield from _tables(section, places, found, width, sort % len(places), limit)


def _tables(  # noqa: PLR0913, PLR0917 - a table is that much
    section: Section, places: Places, found: Sequence[Row], width: int, sort: int, limit: int
) -> Iterator[Table]:
    by, sort_column = places[sort]
    mark = ""
    if section.by:  # any other section has one row only
        mark = _SMALLEST_FIRST if sort_column.bad == "low" else _LARGEST_FIRST
        found = _sorted(found, by, sort_column)
    titles = {place: column.title + mark * (place == by) for place, column in places}
    cells = {
        place: [_cell(column, values[place]) for _, values in found[:limit]]
        for place, column in places
    }
    widths = {place: max(map(len, (titles[place], *cells[place]))) for place, _ in places}
    names = [printable(" ".join(key)) for key, _ in found[:limit]] if section.by else []
    name_width = _name_width([*section.by, *names], [*widths.values()], width) if names else 0
    left = width - _EDGES - (name_width + _GAP if names else 0)
    more = f" ({limit} of {len(found)} rows)" if len(found) > limit else ""
    for number, part in enumerate(_parts(places, widths, left)):
        title = f"{section.title}{more}{', continued' if number else ''}"
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
        if names:
            table.add_column(section.by[0], overflow="fold", max_width=name_width)
        for place, _ in part:
            table.add_column(titles[place], justify="right", no_wrap=True)
        for index in range(len(found[:limit])):
            name = [Text(names[index])] if names else []
            table.add_row(*name, *(cells[place][index] for place, _ in part))
        yield table


def _name_width(names: Sequence[str], widths: Sequence[int], width: int) -> int:
    """Returns how wide the names are: as the longest, unless that leaves too little for columns."""
    longest = max(map(len, names))
    beside_all, beside_one = (
        width - _EDGES - _GAP - taken
        for taken in (sum(widths) + _GAP * len(widths), max(widths) + _GAP)
    )
    return min(longest, max(beside_all, min(width // 2, beside_one), 1))


def _parts(places: Places, widths: dict[int, int], width: int) -> Iterator[Places]:
    """Yields the columns of each table: as many as fit, but at least one."""
    part: list[tuple[int, Column]] = []
    left = width
    for place, column in places:
        needed = widths[place] + _GAP
        if part and needed > left:
            yield part
            part, left = [], width
        part.append((place, column))
        left -= needed
    yield part


def _sorted(found: Sequence[Row], place: int, column: Column) -> list[Row]:
    sign = 1 if column.bad == "low" else -1

    def key(row: Row) -> float:
        value = row[1][place]
        return math.inf if math.isnan(value) else sign * value

    return sorted(found, key=key)


def _cell(column: Column, value: float) -> Text:
    return Text(figure_text(column, value), "bold red" if _is_bad(column, value) else "")


def _is_bad(column: Column, value: float) -> bool:
    return value < 1 if column.bad == "low" else column.bad == "high" and value > 0


def print_once(services: Sequence[Interval]) -> None:
    """Prints all tables, as figures since the start of the services.

    Characters that the terminal's encoding lacks are escaped, as a route may have any.
    """
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(Group(*tables(services, console.width, limit=EVERY_ROW)))
    text = captured.get()
    if console.options.ascii_only:
        text = text.translate(_IN_ASCII).encode("ascii", "backslashreplace").decode()
    sys.stdout.write(text)
