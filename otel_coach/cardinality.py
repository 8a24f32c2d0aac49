"""The most series that otel-coach can ever make: arithmetic on the catalogue and the budgets."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from otel_coach.budgets import KEPT
from otel_coach.catalogue import Kind, Metric
from otel_coach.vocabulary import DEFAULT_SIZES, ERROR_TYPE, LABEL_SET, OTHER, OUR_OWN_VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping


def most_series(metric: Metric, budgets: Mapping[str, int] | None = None) -> int:
    """How many lines of the page `metric` can take in one service, whatever comes in.

    Under several workers too, for they share their budgets. `budgets` replaces defaults.
    """
    sizes = {**DEFAULT_SIZES, **(budgets or {})}
    values = {label: _most_values(metric, label, sizes[label]) for label in metric.labels}
    # Past the limit the others become `other`, or stay empty where there is no error.
    refused = prod(
        count if label in KEPT else 1 + (label == ERROR_TYPE) for label, count in values.items()
    )
    combinations = prod(values.values())
    if combinations > sizes[LABEL_SET]:
        combinations = min(combinations, sizes[LABEL_SET] + refused)
    return combinations * lines_of_a_series(metric)


def lines_of_a_series(metric: Metric) -> int:
    """A histogram has a line for each bucket, one for the last (`+Inf`), its sum and its count."""
    return len(metric.buckets) + 3 if metric.kind is Kind.HISTOGRAM else 1


def _most_values(metric: Metric, label: str, budget: int) -> int:
    if label in metric.closed:
        return len(metric.closed[label])
    return budget + len({OTHER, *OUR_OWN_VALUES.get(label, ())})
