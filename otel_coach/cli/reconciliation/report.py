"""The result of a comparison, as lines of text or as JSON."""

from __future__ import annotations

import json
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

from otel_coach.cli.reconciliation.comparison import ROUNDING, share
from otel_coach.cli.reconciliation.figures import short, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from otel_coach.cli.reconciliation.comparison import Comparison, Row
    from otel_coach.cli.reconciliation.figures import Counted, Invoice

_NONE: Final = "-"
_WHOLE: Final = "1.0000"
_MAX_NAMES: Final = 8
"""Names of one model that are printed."""
_HEADER: Final = (
    *("model", "tokens: theirs", "ours", "difference", "captured"),
    *("USD: theirs", "ours", "difference", "captured"),
)


def lines(comparison: Comparison, invoice: Invoice, counted: Counted) -> Iterator[str]:
    """Yields the report."""
    yield f"theirs: {_span(invoice)}"
    yield f"ours: {counted.source}"
    yield from _table(comparison)
    for row in comparison.models:
        yield from _remarks(row)
    for note in (*invoice.notes, *counted.notes, *comparison.notes):
        yield f"note: {note}"
    limit = f"{comparison.tolerance:.2%}"
    if not comparison.beyond:
        yield f"reconciled: every model and the total differ by at most {limit}"
        return
    for row in comparison.beyond:
        what = " and ".join("USD" if one == "usd" else one for one in row.beyond)
        yield f"NOT reconciled: {short(row.match.name)} differs by more than {limit} in {what}"


def as_json(comparison: Comparison, invoice: Invoice, counted: Counted) -> str:
    """Returns the report as a JSON object. Differences are ours minus theirs."""
    begin, end = invoice.span
    return json.dumps(
        {
            "from": begin,
            "to": end,
            "theirs": sorted(map(str, invoice.spans)),
            "ours": counted.source,
            "tolerance": comparison.tolerance,
            "reconciled": not comparison.beyond,
            "models": [{**_names_in(row), **_object(row)} for row in comparison.models],
            "fees": [
                {"name": row.match.name, "usd": float(row.theirs.usd)} for row in comparison.fees
            ],
            "total": _object(comparison.total),
            "notes": [*invoice.notes, *counted.notes, *comparison.notes],
        },
        indent=2,
    )


def _names_in(row: Row) -> dict[str, Any]:
    name, theirs, ours = row.match
    return {"model": name, "their_names": theirs, "our_names": ours}


def _object(row: Row) -> dict[str, Any]:
    return {
        "tokens": _quantity(row.has_tokens, row.theirs.tokens, row.ours.tokens),
        "usd": _quantity(row.has_usd, row.theirs.usd, row.ours.usd),
        "unmeasured": dict(row.unmeasured),
        "beyond_tolerance": row.beyond,
    }


def _quantity(known: bool, theirs: int | Decimal, ours: int | Decimal) -> dict[str, Any]:  # noqa: FBT001
    def number(value: int | Decimal) -> int | float:
        return value if isinstance(value, int) else float(value)

    if not known:
        return {"theirs": None, "ours": number(ours), "difference": None, "captured": None}
    return {
        "theirs": number(theirs),
        "ours": number(ours),
        "difference": number(ours - theirs),
        "captured": share(theirs, ours),
    }


def _span(invoice: Invoice) -> str:
    begin, end = invoice.span
    return f"{', '.join(sorted(map(str, invoice.spans)))}, {utc_text(begin)} to {utc_text(end)}"


def _table(comparison: Comparison) -> Iterator[str]:
    rows = [
        _HEADER,
        *map(_cells, comparison.models),
        *map(_fee_cells, comparison.fees),
        _cells(comparison.total),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        name, *numbers = row
        cells = [name.ljust(widths[0]), *starmap(str.rjust, zip(numbers, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    theirs, ours = row.theirs, row.ours
    tokens = (_NONE, f"{ours.tokens:,}", _NONE, _NONE)
    if row.has_tokens:
        difference = f"{ours.tokens - theirs.tokens:+,}"
        tokens = (f"{theirs.tokens:,}", tokens[1], difference, _share(theirs.tokens, ours.tokens))
    usd = (_NONE, f"{ours.usd:,.6f}", _NONE, _NONE)
    if row.has_usd:
        difference = f"{ours.usd - theirs.usd:+z,.6f}"
        usd = (f"{theirs.usd:,.6f}", usd[1], difference, _share(theirs.usd, ours.usd))
    return short(row.match.name), *tokens, *usd


def _fee_cells(row: Row) -> tuple[str, ...]:
    nothing: Sequence[str] = (_NONE,) * 4
    return short(row.match.name), *nothing, f"{row.theirs.usd:,.6f}", _NONE, _NONE, _NONE


def _remarks(row: Row) -> Iterator[str]:
    name, theirs, ours = row.match
    if not theirs:
        yield f"{short(name)}: only ours"
    elif not ours:
        yield f"{short(name)}: only theirs"
    elif {*theirs, *ours} != {name}:
        yield f"{short(name)}: theirs {_names(theirs)}, ours {_names(ours)}"
    if row.unmeasured:
        calls = ", ".join(f"{count:,} {reason}" for reason, count in sorted(row.unmeasured.items()))
        yield f"{short(name)}: unmeasured calls: {calls}"


def _names(names: Sequence[str]) -> str:
    more = [f"{len(names) - _MAX_NAMES} more"] if len(names) > _MAX_NAMES else []
    return " + ".join([*map(short, names[:_MAX_NAMES]), *more])


def _share(theirs: int | Decimal, ours: int | Decimal) -> str:
    """Returns the captured share as text: 1.0000 stands for equal figures only."""
    found = share(theirs, ours)
    if found is None or abs(ours - theirs) <= ROUNDING:
        return _NONE if found is None else _WHOLE
    nearest_but_one = "0.9999" if found < 1 else "1.0001"
    return nearest_but_one if (text := f"{found:.4f}") == _WHOLE else text
