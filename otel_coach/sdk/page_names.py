"""The names that OpenTelemetry's Prometheus exporter gives to metrics on the page.

They depend on the metric's name, unit and kind, and on the exporter's version. So the exporter
itself is asked.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry

from otel_coach.core import compatibility
from otel_coach.metrics.catalogue import InstrumentKind, family_name
from otel_coach.sdk.isolated_reader import IsolatedReader

if TYPE_CHECKING:
    from collections.abc import Mapping

_EMPTY: Final[Mapping[InstrumentKind, Any]] = {
    InstrumentKind.COUNTER: Sum([], AggregationTemporality.CUMULATIVE, is_monotonic=True),
    InstrumentKind.GAUGE: Gauge([]),
    InstrumentKind.HISTOGRAM: Histogram([], AggregationTemporality.CUMULATIVE),
}
_MAX_KEPT: Final = 256
_MAX_ON_PAGE: Final = 4096
"""A page has fewer instruments. All of them are looked up in the same order each time: a cache that
is smaller than their number would drop each one just before it is needed again."""


class _Translator(IsolatedReader):
    """Translates metrics that it is given; it has no instruments of its own."""

    def collect(self, timeout_millis: float = 10_000) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - only its collector calls it
        """Does nothing."""

    def family_of(self, metric: Metric) -> str | None:
        """Returns the name of the family that `metric` becomes, None if it becomes none."""
        scope = ScopeMetrics(InstrumentationScope(""), [metric], "")
        self._receive_metrics(MetricsData([ResourceMetrics(Resource.get_empty(), [scope], "")]))
        return next((family.name for family in self._own_registry.collect()), None)


@lru_cache(_MAX_KEPT)
def page_name(name: str, unit: str, kind: InstrumentKind) -> str:
    """Returns the name of the family on the page, without the `_total` of a counter."""
    return _translated(name, unit, kind)


def _translated(name: str, unit: str, kind: InstrumentKind) -> str:
    if compatibility.holds(compatibility.READERS):
        translator = _Translator(CollectorRegistry(auto_describe=False), disable_target_info=True)
        try:
            found = translator.family_of(Metric(name, "", unit, _EMPTY[kind]))
        except ValueError:  # no valid name: the SDK makes no instrument
            found = None
        if found is not None:
            return found
    return family_name(name, unit)


_on_page = lru_cache(_MAX_ON_PAGE)(_translated)


def page_name_of(metric: Metric) -> str:
    """Returns the name of the family that `metric`, which is on the page, becomes there."""
    return _on_page(metric.name, metric.unit or "", _kind(metric.data))


def _kind(data: Any) -> InstrumentKind:
    if isinstance(data, Sum):
        return InstrumentKind.COUNTER if data.is_monotonic else InstrumentKind.GAUGE
    return InstrumentKind.GAUGE if isinstance(data, Gauge) else InstrumentKind.HISTOGRAM
