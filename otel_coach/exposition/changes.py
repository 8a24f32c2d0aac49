"""Of what the SDK collected, the points that changed since it was collected last.

To write a point as Prometheus' samples costs many times what it is to collect it. Most points are
what they were.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricsData

from otel_coach.catalogue import family_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.metrics.export import Metric


class Changes:
    """What was collected last."""

    def __init__(self) -> None:
        self._known: dict[str, _Points] = {}
        self.partial: frozenset[str] = frozenset()
        """Families of which the last `of` has those points only that changed."""

    def of(self, collected: MetricsData) -> MetricsData:
        """`collected`, in which no two metrics have the name of one family, without the rest."""
        partial: set[str] = set()
        known, self._known = self._known, {}

        def changed(metric: Metric) -> Metric:
            name = family_name(metric.name, metric.unit or "")
            now = self._known[name] = _Points(metric)
            before = known.get(name)
            if before is None or not now.goes_on_from(before):
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
        """Hand all of it over the next time."""
        self._known = {}


class _Points:
    """Those of one metric.

    Not the points themselves: thousands of objects would make garbage collections long.
    """

    def __init__(self, metric: Metric) -> None:
        self.about = metric.name, metric.description, metric.unit, type(metric.data)
        points = metric.data.data_points
        self.attributes: list[Mapping[str, Any]] = [point.attributes or {} for point in points]
        self.values = [_value(point) for point in points]

    def goes_on_from(self, before: _Points) -> bool:
        """Whether it has the same points in the same order, and perhaps more after them.

        The stock reader gives all points of a family the labels that one of them has. So all of
        them have to have the same.
        """
        if self.about != before.about or len(self.attributes) < len(before.attributes):
            return False
        pairs = zip(before.attributes, self.attributes, strict=False)
        if any(one is not other and one != other for one, other in pairs):
            return False
        names = self.attributes[0].keys() if self.attributes else ()
        return all(attributes.keys() == names for attributes in self.attributes)

    def changed_since(self, before: _Points, points: Sequence[Any]) -> list[Any]:
        """Those of its `points` that changed."""
        known = before.values
        pairs = zip(points, self.values, known, strict=False)
        changed = [point for point, value, old in pairs if value != old]
        return [*changed, *points[len(known) :]]


def _value(point: Any) -> Any:
    """What of `point` is on the page."""
    return point.value if hasattr(point, "value") else (point.count, point.sum)
