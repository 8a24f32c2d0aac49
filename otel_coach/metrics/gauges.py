"""Gauges, whose values are read when metrics are collected."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Observation

from otel_coach.core.guard import swallowed
from otel_coach.metrics.aggregation import attributes
from otel_coach.metrics.catalogue import Merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions, Meter

    from otel_coach.core.guard import CountsFaults
    from otel_coach.metrics.cardinality import BoundedLabels
    from otel_coach.metrics.catalogue import Metric

    Values = Callable[[], Mapping[tuple[object, ...], float]]


_COMBINE: Final[Mapping[Merge, Callable[[float, float], float]]] = {
    Merge.SUM: add,
    Merge.MAX: max,
    Merge.LATEST: min,  # of dependencies: 0 if one of them is down
}
"""What becomes of two values whose labels exceed a budget, and so become the same."""


class Gauges:
    """The gauges of this process.

    Args:
        meter: makes the instruments.
        bounded: keeps labels within their budgets.
        recorder: counts faults.
    """

    def __init__(self, meter: Meter, bounded: BoundedLabels, recorder: CountsFaults) -> None:
        self.recorder = recorder
        self._meter = meter
        self._bounded = bounded
        self._values: dict[Metric, Values] = {}
        self._times: dict[Metric, Values] = {}

    def observe(self, metric: Metric, values: Values, times: Values | None = None) -> None:
        """Makes a gauge. `values` returns its values by labels, `times` when they were measured.

        If the gauge exists already, it gets its values from `values` from now on.
        """
        is_there = metric in self._values
        self._values[metric] = values
        if times is not None:
            self._times[metric] = times
        if is_there:
            return

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            found: Mapping[tuple[str, ...], float] = {}
            try:
                found = self._combined(metric, self._values[metric])
            except BaseException as raised:  # the scrape goes on without this gauge
                if not swallowed(self, raised, metric.name):
                    raise
            return [
                Observation(value, attributes(metric, labels)) for labels, value in found.items()
            ]

        self._meter.create_observable_gauge(
            metric.name, [callback], unit=metric.unit, description=metric.help
        )

    def values(self) -> Mapping[Metric, Mapping[tuple[str, ...], float]]:
        """Returns the current values, by metric and label values."""
        return {metric: self._combined(metric, values) for metric, values in self._values.items()}

    def times(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Returns when values were measured, by the metric's Prometheus name and label values."""
        return {
            metric.prometheus_name: {
                self._bounded.of_gauge(metric, labels): time for labels, time in times().items()
            }
            for metric, times in self._times.items()
        }

    def _combined(self, metric: Metric, values: Values) -> Mapping[tuple[str, ...], float]:
        combine = _COMBINE[metric.merge]
        found: dict[tuple[str, ...], float] = {}
        for labels, value in values().items():
            bounded = self._bounded.of_gauge(metric, labels)
            found[bounded] = combine(found[bounded], value) if bounded in found else value
        return found
