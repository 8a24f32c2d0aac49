"""Puts the provider's figures and otel-coach's side by side, and judges the difference."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from otel_coach.cli.reconciliation.figures import Figures, InputError, short
from otel_coach.cli.reconciliation.model_names import Match, matches
from otel_coach.metrics.labels import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    beyond: tuple[str, ...]
    """Which of `tokens` and `usd` differ by more than the tolerance."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, and the sums."""

    models: Sequence[Row]
    fees: Sequence[Row]
    """US dollars of the provider that are no model's tokens; they are in the total alone."""
    total: Row
    tolerance: float
    has_tokens: bool
    """Whether the provider's side has tokens."""
    has_usd: bool
    has_usd_by_model: bool

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
        row = Row(
            named,
            _sum(invoice.models[name] for name in billed),
            _sum(counted.models.get(name, Figures()) for name in match.ours),
            sum((counted.unmeasured.get(name, Counter()) for name in match.ours), Counter[str]()),
            (),
        )
        if billed or row.ours != Figures() or row.unmeasured:
            rows.append(row)
    _check(rows, patterns)
    rule = _Rule(tolerance, invoice.has_tokens, invoice.has_usd_by_model)
    rows = _judged(rows, rule)
    fees = [
        Row(Match(fee, (fee,), ()), Figures(usd=usd), Figures(), {}, ())
        for fee, usd in sorted(invoice.fees.items())
        if not patterns
    ]
    total = Row(
        Match("total", (), ()),
        _sum(row.theirs for row in (*rows, *fees)),
        _sum(row.ours for row in rows),
        sum((Counter(row.unmeasured) for row in rows), Counter[str]()),
        (),
    )
    has_usd = invoice.has_usd_by_model if patterns else invoice.has_usd
    return Comparison(
        rows,
        fees,
        replace(rule, usd=has_usd).judged(total, total),
        tolerance,
        invoice.has_tokens,
        has_usd,
        invoice.has_usd_by_model,
    )


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


def _judged(rows: Sequence[Row], rule: _Rule) -> list[Row]:
    """Returns the rows, with what is beyond the tolerance in each.

    Models past the budget of the label are `OTHER` on our side: that row and the models that are
    only on the provider's side are judged by their sum.
    """
    together: list[Row] = []
    if any(OTHER in row.match.ours and row.ours != Figures() for row in rows):
        together = [row for row in rows if OTHER in row.match.ours or not row.match.ours]
    theirs, ours = _sum(row.theirs for row in together), _sum(row.ours for row in together)
    joint = Row(Match(OTHER, (), ()), theirs, ours, {}, ())
    return [rule.judged(row, joint if row in together else row) for row in rows]


@dataclass(frozen=True, slots=True)
class _Rule:
    """The tolerance, and whether tokens and US dollars are judged."""

    tolerance: float
    tokens: bool
    usd: bool

    def judged(self, row: Row, by: Row) -> Row:
        """Returns `row`, with what is beyond the tolerance in the row `by`."""
        limit = Decimal(repr(self.tolerance))
        beyond: list[str] = []
        missing = abs(by.ours.tokens - by.theirs.tokens)
        if self.tokens and missing > limit * by.theirs.tokens:
            beyond.append("tokens")
        allowed = max(limit * abs(by.theirs.usd), ROUNDING)
        if self.usd and abs(by.ours.usd - by.theirs.usd) > allowed:
            beyond.append("usd")
        return replace(row, beyond=tuple(beyond))


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
    if billed and counted and not any(row.match.ours for row in billed):
        message = (
            f"no model of the export ({_listed(billed)}) is among those that were counted "
            f"({_listed(counted)}); is this the export of this service's provider? --alias "
            "LABEL=NAME says that two names mean the same model"
        )
        raise InputError(message)


def _listed(rows: Sequence[Row]) -> str:
    names = [short(row.match.name) for row in rows[:_MAX_NAMED]]
    return ", ".join([*names, *(["..."] if len(rows) > _MAX_NAMED else [])])
