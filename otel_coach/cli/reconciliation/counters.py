"""Adds up what otel-coach's counters rose by, whether read from pages or from Prometheus."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.cli.reconciliation.figures import Counted, Figures
from otel_coach.metrics.catalogue import (
    ERRORS,
    LABEL_OVERFLOW,
    LLM_COST,
    LLM_TOKENS,
    LLM_UNMEASURED,
)
from otel_coach.metrics.labels import ERROR_TYPE, MODEL, OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOKENS: Final = LLM_TOKENS.prometheus_name
COST: Final = LLM_COST.prometheus_name
UNMEASURED: Final = LLM_UNMEASURED.prometheus_name
OVERFLOW: Final = LABEL_OVERFLOW.prometheus_name
FAULTS: Final = ERRORS.prometheus_name
NAMES: Final = (TOKENS, COST, UNMEASURED, OVERFLOW, FAULTS)
"""The counters that are read."""


class Rise(NamedTuple):
    """By how much one series rose in the span of time."""

    name: str
    labels: Mapping[str, str]
    value: float


def counted(source: str, rises: Iterable[Rise]) -> Counted:
    """Returns the sums by model, with notes on what may explain a difference."""
    found = Counted(source)
    overflows = faults = 0.0
    for name, labels, value in rises:
        model = labels.get(MODEL, "")
        if name == TOKENS:
            _add(found, model, Figures(tokens=round(value)))
        elif name == COST:
            _add(found, model, Figures(usd=Decimal(repr(value))))
        elif name == UNMEASURED and value:
            reasons = found.unmeasured.setdefault(model, Counter())
            reasons[labels.get(ERROR_TYPE, "")] += round(value)
        elif name == OVERFLOW and labels.get(ERROR_TYPE) == MODEL:
            overflows += value
        elif name == FAULTS:
            faults += value
    if overflows or OTHER in found.models or OTHER in found.unmeasured:
        found.notes.append(
            f"the label model has the value {OTHER}: models past the budget, and models whose "
            "name is a URL or a host, are counted under it; it is judged together with the models "
            "that are only theirs; raise OTEL_COACH_BUDGET_MODEL"
        )
    if faults:
        found.notes.append(
            f"otel-coach counted {faults:g} faults of its own in this time: a call may be missing; "
            "the service's log has their places"
        )
    return found


def _add(found: Counted, model: str, figures: Figures) -> None:
    found.models[model] = found.models.get(model, Figures()) + figures
