"""The table of docs/providers.md, from the results of `tests/providers/test_integrations.py`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support import pages
from tests.support.providers.integrations import INTEGRATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

CELL: Final = "cell"
"""The property of a test that says which cell it is about: integration, column, way, result."""
EXACT: Final = "exact"
SILENT: Final = "-"
"""The provider's protocol does not say it."""
WITHHELD: Final = "not handed over"
WRONG: Final = "wrong"
COLUMNS: Final = {
    "calls": "calls",
    "tokens": "prompt and completion tokens",
    "cached": "cached tokens",
    "reasoning": "reasoning tokens",
    "cost": "cost",
    "first_token": "first token",
    "finish": "finish reason",
    "provider": "provider name",
}


class Table:
    """A pytest plugin: collects the results, and writes the table into `page` if one is given."""

    def __init__(self, page: str | None) -> None:
        self._page = page
        self._cells: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: Any) -> None:
        for name, value in report.user_properties if report.when == "call" else ():
            if name == CELL:
                integration, column, way, result = value
                self._cells[integration, column][way] = result if report.passed else WRONG

    def pytest_sessionfinish(self) -> None:
        if self._page is not None:
            pages.write(Path(self._page), "docs-providers", self.written())

    def written(self) -> str:
        """The table in Markdown."""
        lines = [
            f"| | {' | '.join(COLUMNS.values())} |",
            f"|---|{'---|' * len(COLUMNS)}",
        ]
        for integration in INTEGRATIONS.values():
            cells = [_cell(self._cells[integration.name, column]) for column in COLUMNS]
            lines.append(f"| {integration.title} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def _cell(by_way: Mapping[str, str]) -> str:
    if not by_way:
        return "not tested"
    results = {*by_way.values()}
    if len(results) == 1:
        return results.pop()
    told = results - {SILENT, EXACT}
    if not told:
        return EXACT
    return "; ".join(
        f"{result}: {', '.join(way for way, found in by_way.items() if found == result)}"
        for result in sorted(told)
    )
