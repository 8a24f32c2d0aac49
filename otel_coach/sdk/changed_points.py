"""Finds the metric points that have changed since the last call of `Changes.of`.

Writing a point as Prometheus samples costs many times what collecting it costs, and most points
have not changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricsData

from otel_coach.sdk.page_names import page_name_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.metrics.export import Metric


class Changes:
    """Remembers the points of the last call of `of`."""

    def __init__(self) -> None:
        self._known: dict[str, _Points] = {}
        self.partial: frozenset[str] = frozenset()
        """Families of which the last call of `of` returned the changed points only."""

    def of(self, collected: MetricsData) -> MetricsData:
        """Returns `collected` without the points that have not changed since the last call.

        No two metrics in `collected` may have the same family name. A family whose points cannot
        be matched with those of the last call is returned whole.
        """
        partial: set[str] = set()
        known, self._known = self._known, {}

        def changed(metric: Metric) -> Metric:
            name = page_name_of(metric)
            now = self._known[name] = _Points(metric)
            before = known.get(name)
            if before is None or not now.continues(before):
                return metric
            partial.add(name)
            points = now.changed_since(before, metric.data.data_points)
            return replace(metric, data=replace(metric.data, data_points=points))

        found = MetricsData(
            [
                replace(
                    resource,
                    scope_metrics=[
                        replace(scope, metrics=[*map(changed, scope.metrics)])
                        for scope in resource.scope_metrics
                    ],
                )
                for resource in collected.resource_metrics
            ]
        )
        self.partial = frozenset(partial)
        return found

    def forget(self) -> None:
        """Makes the next call of `of` return all points."""
        self._known = {}


class _Points:
    """The attributes and values of one metric's points.

    The points themselves are not kept: thousands of objects would make garbage collections long.
    """

    def __init__(self, metric: Metric) -> None:
        self.identity = metric.name, metric.description, metric.unit, type(metric.data)
        points = metric.data.data_points
        self.attributes: list[Mapping[str, Any]] = [point.attributes or {} for point in points]
        self.values = [_value(point) for point in points]

    def continues(self, before: _Points) -> bool:
        """Returns whether these points begin with those of `before`, in the same order.

        All points must have the same attribute names, too: OpenTelemetry's Prometheus reader gives
        each point the labels of all points that it gets, and changed points alone may have fewer.
        """
        if self.identity != before.identity or len(self.attributes) < len(before.attributes):
            return False
        pairs = zip(before.attributes, self.attributes, strict=False)
        if any(old is not new and old != new for old, new in pairs):
            return False
        names = self.attributes[0].keys() if self.attributes else ()
        return all(attributes.keys() == names for attributes in self.attributes)

    def changed_since(self, before: _Points, points: Sequence[Any]) -> list[Any]:
        """Returns those of this metric's `points` that are new or have changed since `before`."""
        known = before.values
        pairs = zip(points, self.values, known, strict=False)
        changed = [point for point, value, old in pairs if value != old]
        return [*changed, *points[len(known) :]]


def _value(point: Any) -> Any:
    """Returns the value of `point`; for a histogram, its count and sum."""
    return point.value if hasattr(point, "value") else (point.count, point.sum)
