"""The most series that otel-coach can ever make: arithmetic on the catalogue and the budgets."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from otel_coach.budgets import KEPT
from otel_coach.catalogue import Kind, Metric
from otel_coach.vocabulary import (
    DEFAULT_SIZES,
    ENDPOINT,
    ERROR_TYPE,
    LABEL_SET,
    METHOD,
    OTHER,
    OUR_OWN_VALUES,
    SETS_OF_AN_ENDPOINT,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def most_series(metric: Metric, budgets: Mapping[str, int] | None = None) -> int:
    """How many lines of the page `metric` can take in one service, whatever comes in.

    Under several workers too, for they share their budgets. `budgets` replaces defaults.
    """
    sizes = {**DEFAULT_SIZES, **(budgets or {})}
    values = {label: _most_values(metric, label, sizes[label]) for label in metric.labels}
    combinations = prod(values.values())
    if combinations > sizes[LABEL_SET]:
        limit = sizes[LABEL_SET] + _refused(metric, values, sizes)
        if METHOD in values:
            limit += SETS_OF_AN_ENDPOINT * sizes[ENDPOINT]
        combinations = min(combinations, limit)
    return combinations * lines_of_a_series(metric)


def _refused(metric: Metric, values: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """How many combinations are left past the limit.

    The others become `other`, or stay empty where there is no error; where there is no method, the
    first label keeps what is declared.
    """
    kept = prod(
        count if label in KEPT else 1 + (label == ERROR_TYPE) for label, count in values.items()
    )
    return kept if METHOD in values else kept * (sizes[metric.labels[0]] + 1)


def lines_of_a_series(metric: Metric) -> int:
    """Of the page."""
    return lines_of_a_histogram(len(metric.buckets)) if metric.kind is Kind.HISTOGRAM else 1


def lines_of_a_histogram(bounds: int) -> int:
    """One for the bucket of each bound, one for the last (`+Inf`), its sum and its count."""
    return bounds + 3


def _most_values(metric: Metric, label: str, budget: int) -> int:
    if label in metric.closed:
        return len(metric.closed[label])
    return budget + len({OTHER, *OUR_OWN_VALUES.get(label, ())})
