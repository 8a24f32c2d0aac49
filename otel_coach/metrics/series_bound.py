"""How many lines of the page a metric can take, computed from the catalogue and the budgets."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

from otel_coach.metrics.cardinality import KEPT
from otel_coach.metrics.catalogue import InstrumentKind, Metric
from otel_coach.metrics.labels import (
    DEFAULT_SIZES,
    ENDPOINT,
    ERROR_TYPE,
    LABEL_SET,
    LABEL_SETS_PER_ENDPOINT,
    MAX_LENGTH,
    METHOD,
    OTHER,
    OUR_OWN_VALUES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_NUMBER: Final = 26
"""Characters of a value, the space before it and the line's end."""
_EXEMPLAR: Final = len(' # {trace_id="",span_id=""}') + 32 + 16 + 2 * _MAX_NUMBER
"""Characters of the two ids, the value and the time of an exemplar, in OpenMetrics."""
_SUFFIX_AND_BOUND: Final = len('_bucket{le="0.0025",}')


def max_lines(metric: Metric, budgets: Mapping[str, int] | None = None) -> int:
    """Returns how many lines of the page `metric` can take in one service, whatever is measured.

    The bound also holds for several workers, which share their budgets. `budgets` overrides default
    sizes.
    """
    return max_series(metric, budgets) * lines_of_a_series(metric)


def max_series(metric: Metric, budgets: Mapping[str, int] | None = None) -> int:
    """Returns how many combinations of label values `metric` can have; `budgets` is as above."""
    sizes = {**DEFAULT_SIZES, **(budgets or {})}
    values = {label: _max_values(metric, label, sizes[label]) for label in metric.labels}
    combinations = prod(values.values())
    if combinations > sizes[LABEL_SET] and not metric.is_closed:
        limit = sizes[LABEL_SET] + _combinations_past_limit(metric, values, sizes)
        if METHOD in values:
            limit += LABEL_SETS_PER_ENDPOINT * sizes[ENDPOINT]
        combinations = min(combinations, limit)
    return combinations


def _combinations_past_limit(
    metric: Metric, values: Mapping[str, int], sizes: Mapping[str, int]
) -> int:
    """Returns how many combinations remain possible past the limit.

    There, the labels in `KEPT` keep their values. All others become `other`, except that an error
    type may stay empty, and that without a method the first label keeps a declared value.
    """
    kept = prod(
        count if label in KEPT else 1 + (label == ERROR_TYPE) for label, count in values.items()
    )
    return kept if METHOD in values else kept * (sizes[metric.labels[0]] + 1)


def longest_line(metric: Metric, longest_endpoint: int) -> int:
    """Returns how many characters a line of `metric` can have.

    `longest_endpoint` is the length of the longest route template. Characters that Prometheus
    escapes, or that take several bytes, can make it longer. A bucket may have an exemplar.
    """
    length = len(metric.prometheus_name) + _MAX_NUMBER
    if metric.kind is InstrumentKind.HISTOGRAM:
        length += _SUFFIX_AND_BOUND + _EXEMPLAR
    for label in metric.labels:
        if label in metric.closed:
            longest = max(map(len, metric.closed[label]))
        else:
            longest = longest_endpoint if label == ENDPOINT else MAX_LENGTH
        length += len(f'{label}="",') + longest
    return length


def lines_of_a_series(metric: Metric) -> int:
    """Returns how many lines of the page one series of `metric` takes."""
    return (
        lines_of_a_histogram(len(metric.buckets)) if metric.kind is InstrumentKind.HISTOGRAM else 1
    )


def lines_of_a_histogram(bounds: int) -> int:
    """Returns the lines of one series: a bucket per bound, the `+Inf` bucket, sum and count."""
    return bounds + 3


def _max_values(metric: Metric, label: str, budget: int) -> int:
    if label in metric.closed:
        return len(metric.closed[label])
    return budget + len({OTHER, *OUR_OWN_VALUES.get(label, ())})
