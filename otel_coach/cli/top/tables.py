"""The sections of a page's overview as tables that fit the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from otel_coach.cli.terminal import printable
from otel_coach.prometheus.overview import SECTIONS, How, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_coach.prometheus.overview import Column, Reading, Row, Section

_MAX_ROWS: Final = 12
_MIN_NAME: Final = 10
_GAP: Final = 2
"""Characters between two columns."""
_EDGES: Final = 2
_NONE: Final = "-"
_CENT, _THOUSAND, _MILLION = 1e-2, 1e3, 1e6


def shown(column: Column, value: float) -> str:
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
    now: Reading, before: Reading | None, width: int, *, sort: int = 0, limit: int = _MAX_ROWS
) -> Iterator[Table]:
    """Yields a table for each section that has something to show.

    Each is sorted by the column at `sort`, the largest figure first; the last columns are left out
    where the terminal is too narrow.
    """
    for section in SECTIONS:
        found = rows(section, now, before)
        columns = [*enumerate(section.columns)]
        if before is None:  # there are no rates yet
            columns = [pair for pair in columns if pair[1].how not in {How.RATE, How.HOURLY}]
        if found:
            yield _table(section, columns, _sorted(found, sort), width, limit)


def _sorted(found: list[Row], sort: int) -> list[Row]:
    place = sort % len(found[0][1])
    return sorted(found, key=lambda row: math.inf if math.isnan(row[1][place]) else -row[1][place])


def _table(
    section: Section,
    columns: Sequence[tuple[int, Column]],
    found: Sequence[Row],
    width: int,
    limit: int,
) -> Table:
    texts = {
        place: [shown(column, values[place]) for _, values in found[:limit]]
        for place, column in columns
    }
    widths = {place: max(map(len, (column.title, *texts[place]))) for place, column in columns}
    names = [printable(" ".join(key)) for key, _ in found[:limit]]
    least = min(max([_MIN_NAME, *map(len, names)]), width // 2) if section.by else 0
    left = width - _EDGES - (least + _GAP if section.by else 0)
    kept: list[tuple[int, Column]] = []
    for place, column in columns:
        left -= widths[place] + _GAP
        if left < 0:
            left += widths[place] + _GAP
            break
        kept.append((place, column))
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=section.title, title_justify="left"
    )
    if section.by:
        more = f" (of {len(found)})" if len(found) > limit else ""
        table.add_column(
            f"{section.by[0]}{more}", overflow="ellipsis", no_wrap=True, max_width=left + least
        )
    for _, column in kept:
        table.add_column(column.title, justify="right", no_wrap=True)
    for index, name in enumerate(names):
        cells = [
            Text(texts[place][index], "bold red" if _is_bad(column, found[index][1][place]) else "")
            for place, column in kept
        ]
        table.add_row(*([Text(name)] if section.by else []), *cells)
    return table


def _is_bad(column: Column, value: float) -> bool:
    return value < 1 if column.bad == "low" else column.bad == "high" and value > 0


def print_once(now: Reading) -> None:
    """Prints all tables, as figures since the start of the service."""
    console = Console(highlight=False)
    console.print(Group(*tables(now, None, console.width, limit=1000)))
