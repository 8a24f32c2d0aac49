"""Merges metrics of the same name in several instrumentation scopes into one.

The page has no scope labels, so their series would look alike. An example is
`http.client.request.duration` of the contrib instrumentations of httpx and of requests.
"""

from __future__ import annotations

import logging
import operator
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import HistogramDataPoint, Metric, MetricsData, Sum

from otel_coach.sdk.page_names import page_name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_logger = logging.getLogger("otel_coach")
_logged = set[str]()


def one_for_each_name(collected: MetricsData) -> MetricsData:
    """Returns `collected` with its metrics merged, so that each family name occurs once."""
    families: dict[str, list[Metric]] = {}
    for resource in collected.resource_metrics if collected else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                name = page_name_of(metric)
                families.setdefault(name, []).append(metric)
    if all(len(metrics) == 1 for metrics in families.values()):
        return collected
    # By identity, because a metric is not hashable.
    merged = {id(metrics[0]): reduce(_merged, metrics) for metrics in families.values()}
    return MetricsData(
        [
            replace(
                resource,
                scope_metrics=[
                    replace(
                        scope,
                        metrics=[merged[id(m)] for m in scope.metrics if id(m) in merged],
                    )
                    for scope in resource.scope_metrics
                ],
            )
            for resource in collected.resource_metrics
        ]
    )


def _merged(first: Metric, second: Metric) -> Metric:
    """Returns `first` with the points of `second` added; `first` alone if they cannot be added."""
    if _shape(first) != _shape(second):
        if second.name not in _logged:
            _logged.add(second.name)
            _logger.warning(
                "otel-coach: the metric %s is measured in two ways that do not add up; the page "
                "shows the first one only",
                second.name,
            )
        return first
    points: dict[object, Any] = {}
    both: tuple[Any, ...] = (*first.data.data_points, *second.data.data_points)
    for point in both:
        key = tuple(sorted((point.attributes or {}).items()))
        known = points.get(key)
        if isinstance(known, HistogramDataPoint):
            points[key] = _sum(known, point)
        elif known is not None and isinstance(first.data, Sum):
            points[key] = replace(known, value=known.value + point.value)
        else:
            points[key] = point
    return replace(first, data=replace(first.data, data_points=[*points.values()]))


def _shape(metric: Metric) -> object:
    """Returns what must be equal in two metrics that add up: type, monotonicity and bounds."""
    bounds = {tuple(getattr(point, "explicit_bounds", ())) for point in metric.data.data_points}
    return type(metric.data), getattr(metric.data, "is_monotonic", None), bounds


def _sum(first: HistogramDataPoint, second: HistogramDataPoint) -> HistogramDataPoint:
    return replace(
        first,
        count=first.count + second.count,
        sum=first.sum + second.sum,
        bucket_counts=_sum_counts(first.bucket_counts, second.bucket_counts),
        min=min(first.min, second.min),
        max=max(first.max, second.max),
        exemplars=[*first.exemplars, *second.exemplars],
    )


def _sum_counts(first: Iterable[int], second: Iterable[int]) -> list[int]:
    return [*map(operator.add, first, second)]
