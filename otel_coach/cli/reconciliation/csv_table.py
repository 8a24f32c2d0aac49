"""Reads a CSV file with one line per model and day, for providers without an export of their own.

The columns are `model`, `day`, then `tokens` or `input_tokens` and `output_tokens`, and `usd`.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from otel_coach.cli.reconciliation.figures import InputError, Item, Report, dollars, token_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPORT: Final = Report("", "CSV")
_MODEL: Final = "model"
_DAY: Final = "day"
_TOKENS: Final = ("tokens", "input_tokens", "output_tokens")
_USD: Final = "usd"
_LENGTH: Final = timedelta(days=1)
COLUMNS: Final = "model,day,input_tokens,output_tokens,usd"
"""The first line of such a file. `tokens` may replace both kinds; tokens or usd may be missing."""


def items(text: str, where: str) -> Iterator[Item]:
    """Yields the lines of the file.

    Raises:
        InputError: It has other columns, or a value that cannot be read.
    """
    rows = csv.reader(text.splitlines(), strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        counted = [name for name in _TOKENS if name in header]
        if _MODEL not in header or _DAY not in header or not (counted or _USD in header):
            message = (
                f"{where} is no known export: neither JSON of OpenAI or Anthropic, nor a CSV file "
                f"that begins with {COLUMNS}"
            )
            raise InputError(message)
        if "tokens" in counted and len(counted) > 1:
            message = f"{where} has tokens beside {counted[1]}; keep either the sum or its parts"
            raise InputError(message)
        for row in rows:
            if any(cell.strip() for cell in row):
                place = f"{where}, line {rows.line_num}"
                yield _item(dict(zip(header, row, strict=False)), counted, place)
    except csv.Error as error:
        message = f"{where}, line {rows.line_num} is no CSV ({error}); export it again"
        raise InputError(message) from None


def _item(row: Mapping[str, str], counted: list[str], place: str) -> Item:
    if not (model := row.get(_MODEL, "").strip()):
        message = f"{place} names no model; fill the column model"
        raise InputError(message)
    try:
        day = datetime.strptime(row.get(_DAY, "").strip(), "%Y-%m-%d").replace(tzinfo=UTC)
        end = day + _LENGTH  # OverflowError: there is no day after 9999-12-31
    except (ValueError, OverflowError):
        message = f"{place}: day is {row.get(_DAY, '')[:40]!r}; write it as 2026-11-28"
        raise InputError(message) from None
    given = [name for name in counted if row.get(name, "").strip()]  # an empty cell is not known
    tokens = sum(_count(row[name], f"{place}: {name}") for name in given) if given else None
    billed = row.get(_USD, "").strip()
    usd = dollars(billed, f"{place}: usd") if billed else None
    return Item(REPORT, day.timestamp(), end.timestamp(), model, tokens, usd)


def _count(text: str, where: str) -> int:
    try:
        number = Decimal(text.strip() or 0)
    except InvalidOperation:
        number = None
    # What is no number is shown as it stands in the file.
    return token_count(number if number is not None and number.is_finite() else text, where)
