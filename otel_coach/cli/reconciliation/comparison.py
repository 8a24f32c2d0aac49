"""Puts the provider's figures and otel-coach's side by side, and judges the difference."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from otel_coach.cli.reconciliation.figures import UNNAMED, Figures, InputError, short
from otel_coach.cli.reconciliation.model_names import Match, matches
from otel_coach.metrics.labels import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_coach.cli.reconciliation.figures import Counted, Invoice

ROUNDING: Final = Decimal("1e-9")
"""US dollars below which a difference comes from the floats of a page."""
_MAX_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One model, one fee, or the total."""

    match: Match
    theirs: Figures
    ours: Figures
    unmeasured: Mapping[str, int]
    has_tokens: bool
    """Whether the provider's side has tokens; only then they are compared."""
    has_usd: bool
    beyond: tuple[str, ...] = ()
    """Which of `tokens` and `usd` differ by more than the tolerance."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, and the sums."""

    models: Sequence[Row]
    fees: Sequence[Row]
    """Dollars that the provider bills under no model's name; only the total includes them."""
    total: Row
    tolerance: float
    notes: Sequence[str]

    @property
    def beyond(self) -> list[Row]:
        """The rows that differ by more than the tolerance."""
        return [row for row in (*self.models, self.total) if row.beyond]


def share(theirs: float | Decimal, ours: float | Decimal) -> float | None:
    """Returns ours as a share of theirs; None if theirs is 0."""
    return float(ours) / float(theirs) if theirs else None


def compare(
    invoice: Invoice,
    counted: Counted,
    *,
    tolerance: float,
    aliases: Mapping[str, str],
    patterns: Sequence[str],
) -> Comparison:
    """Returns the comparison.

    `aliases` has, by the provider's name of a model, the value of the label. With `patterns`, only
    models are compared whose name or label matches one of them.

    Raises:
        InputError: No model is on both sides.
    """
    theirs = _renamed(invoice.models, aliases)
    rows: list[Row] = []
    for match in matches(theirs, {*counted.models, *counted.unmeasured}):
        billed = tuple(sorted(name for key in match.theirs for name in theirs[key]))
        named = match._replace(theirs=billed)
        if patterns and not _is_meant(named, patterns):
            continue
        known = billed or tuple(invoice.models)
        row = Row(
            named,
            _sum(invoice.models[name] for name in billed),
            _sum(counted.models.get(name, Figures()) for name in match.ours),
            sum((counted.unmeasured.get(name, Counter()) for name in match.ours), Counter[str]()),
            not invoice.with_tokens.isdisjoint(known),
            not invoice.with_usd.isdisjoint(known),
        )
        if billed or row.ours != Figures() or row.unmeasured:
            rows.append(row)
    _check(rows, patterns)
    rows = _judged(rows, tolerance)
    fees = [
        Row(Match(fee, (fee,), ()), Figures(usd=usd), Figures(), {}, has_tokens=False, has_usd=True)
        for fee, usd in sorted(invoice.fees.items())
        if not patterns
    ]
    total = _total(rows, fees)
    notes = [*_notes(rows, are_in_total=_usd_of_models_is_unnamed(rows, fees))]
    return Comparison(rows, fees, _judged([total], tolerance)[0], tolerance, notes)


def _total(rows: Sequence[Row], fees: Sequence[Row]) -> Row:
    """Returns the sum of what is known of both sides."""
    with_tokens = [row for row in rows if row.has_tokens]
    is_unnamed = _usd_of_models_is_unnamed(rows, fees)
    with_usd = [row for row in rows if row.has_usd or is_unnamed]
    theirs = Figures(
        sum(row.theirs.tokens for row in with_tokens),
        sum((row.theirs.usd for row in (*with_usd, *fees)), Decimal(0)),
    )
    ours = Figures(
        sum(row.ours.tokens for row in with_tokens),
        sum((row.ours.usd for row in with_usd), Decimal(0)),
    )
    unmeasured = sum((Counter(row.unmeasured) for row in rows), Counter[str]())
    has_usd = bool(with_usd or fees)
    return Row(Match("total", (), ()), theirs, ours, unmeasured, bool(with_tokens), has_usd)


def _usd_of_models_is_unnamed(rows: Sequence[Row], fees: Sequence[Row]) -> bool:
    """Whether dollars of models may be among the lines that name no model."""
    is_of_no_model = not any(row.has_usd for row in rows)
    return bool(fees) and (is_of_no_model or any(fee.match.name == UNNAMED for fee in fees))


def _notes(rows: Sequence[Row], *, are_in_total: bool) -> Iterator[str]:
    """Yields a note for tokens and for dollars, if the export has them of some models only.

    `are_in_total`: the other models' dollars are in the total.
    """
    for what, is_known in (("tokens", _has_tokens), ("US dollars", _has_usd)):
        unknown = [row for row in rows if not is_known(row)]
        if not unknown or len(unknown) == len(rows):
            continue
        if are_in_total and is_known is _has_usd:
            yield (
                f"the export does not split its {what} by model for {_listed(unknown)}: they are "
                "compared in the total only; export costs by line item (group_by=line_item)"
            )
        else:
            yield (
                f"the export has no {what} of {_listed(unknown)}: neither compared nor in the "
                "total; export both usage and costs of each provider"
            )


def _has_tokens(row: Row) -> bool:
    return row.has_tokens


def _has_usd(row: Row) -> bool:
    return row.has_usd


def _renamed(models: Iterable[str], aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the provider's names, by the name with which they are compared."""
    names: dict[str, list[str]] = {}
    for name in models:
        names.setdefault(aliases.get(name, name), []).append(name)
    return names


def _is_meant(match: Match, patterns: Iterable[str]) -> bool:
    names = (match.name, *match.theirs, *match.ours)
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _sum(figures: Iterable[Figures]) -> Figures:
    return sum(figures, Figures())


def _judged(rows: Sequence[Row], tolerance: float) -> list[Row]:
    """Returns the rows, with what is beyond the tolerance in each.

    Models past the budget of the label are `OTHER` on our side: that row and the models that are
    only on the provider's side are judged by their sum.
    """
    together: list[Row] = []
    if any(OTHER in row.match.ours and row.ours != Figures() for row in rows):
        together = [row for row in rows if OTHER in row.match.ours or not row.match.ours]
    joint = _beyond(_total(together, ()), tolerance)
    return [
        replace(row, beyond=_of(row, joint) if row in together else _beyond(row, tolerance))
        for row in rows
    ]


def _of(row: Row, quantities: Iterable[str]) -> tuple[str, ...]:
    """Returns those of `quantities` that the row has."""
    has = {"tokens": row.has_tokens, "usd": row.has_usd}
    return tuple(quantity for quantity in quantities if has[quantity])


def _beyond(row: Row, tolerance: float) -> tuple[str, ...]:
    limit = Decimal(repr(tolerance))
    beyond: list[str] = []
    missing = abs(row.ours.tokens - row.theirs.tokens)
    if row.has_tokens and missing > limit * row.theirs.tokens:
        beyond.append("tokens")
    allowed = max(limit * abs(row.theirs.usd), ROUNDING)
    if row.has_usd and abs(row.ours.usd - row.theirs.usd) > allowed:
        beyond.append("usd")
    return tuple(beyond)


def _check(rows: Sequence[Row], patterns: Sequence[str]) -> None:
    if not rows:
        message = (
            f"no model has the form {' or '.join(patterns)}; name models as the label or the "
            "export does"
            if patterns
            else "neither side names a model; export the time in which the calls were made"
        )
        raise InputError(message)
    billed = [row for row in rows if row.match.theirs]
    counted = [row for row in rows if row.ours != Figures()]
    has_other = any(OTHER in row.match.ours for row in counted)  # it may stand for any model
    if billed and counted and not has_other and not any(row.match.ours for row in billed):
        message = (
            f"no model of the export ({_listed(billed)}) is among those that were counted "
            f"({_listed(counted)}); is this the export of this service's provider? --alias "
            "LABEL=NAME says that two names mean the same model"
        )
        raise InputError(message)


def _listed(rows: Sequence[Row]) -> str:
    names = [short(row.match.name) for row in rows[:_MAX_NAMED]]
    return ", ".join([*names, *(["..."] if len(rows) > _MAX_NAMED else [])])
