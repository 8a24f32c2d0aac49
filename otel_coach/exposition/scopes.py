"""Instruments of one name in several scopes become one metric.

The page has no scope labels, so their series would look alike: `http.client.request.duration` of
the stock instrumentations of httpx and of requests, for one.
"""

from __future__ import annotations

import logging
import operator
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import HistogramDataPoint, Metric, MetricsData, Sum

from otel_coach.catalogue import family_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_logger = logging.getLogger("otel_coach")
_left_out = set[str]()


def one_for_each_name(found: MetricsData) -> MetricsData:
    """`found`, in which no two metrics have the name of one family."""
    families: dict[str, list[Metric]] = {}
    for resource in found.resource_metrics if found else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                name = family_name(metric.name, metric.unit or "")
                families.setdefault(name, []).append(metric)
    if all(len(metrics) == 1 for metrics in families.values()):
        return found
    # By identity, because a metric is no hashable value.
    merged = {id(metrics[0]): reduce(_with, metrics) for metrics in families.values()}
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
            for resource in found.resource_metrics
        ]
    )


def _with(one: Metric, other: Metric) -> Metric:
    """`one` with the points of `other`; without them if they measure different things."""
    if _shape(one) != _shape(other):
        if other.name not in _left_out:
            _left_out.add(other.name)
            _logger.warning(
                "otel-coach: the metric %s is measured in two ways that do not add up; the page "
                "shows the first one only",
                other.name,
            )
        return one
    points: dict[object, Any] = {}
    both: tuple[Any, ...] = (*one.data.data_points, *other.data.data_points)
    for point in both:
        key = tuple(sorted((point.attributes or {}).items()))
        known = points.get(key)
        if isinstance(known, HistogramDataPoint):
            points[key] = _added(known, point)
        elif known is not None and isinstance(one.data, Sum):
            points[key] = replace(known, value=known.value + point.value)
        else:
            points[key] = point
    return replace(one, data=replace(one.data, data_points=[*points.values()]))


def _shape(metric: Metric) -> object:
    """What must be the same in two metrics that add up."""
    bounds = {tuple(getattr(point, "explicit_bounds", ())) for point in metric.data.data_points}
    return type(metric.data), getattr(metric.data, "is_monotonic", None), bounds


def _added(one: HistogramDataPoint, other: HistogramDataPoint) -> HistogramDataPoint:
    return replace(
        one,
        count=one.count + other.count,
        sum=one.sum + other.sum,
        bucket_counts=_sums(one.bucket_counts, other.bucket_counts),
        min=min(one.min, other.min),
        max=max(one.max, other.max),
        exemplars=[*one.exemplars, *other.exemplars],
    )


def _sums(one: Iterable[int], other: Iterable[int]) -> list[int]:
    return [*map(operator.add, one, other)]
