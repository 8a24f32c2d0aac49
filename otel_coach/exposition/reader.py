"""The stock Prometheus reader, with the exemplars that it leaves out."""

from __future__ import annotations

from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Histogram
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client import REGISTRY
from prometheus_client.samples import Exemplar

from otel_coach.catalogue import CATALOGUE
from otel_coach.exposition.changes import Changes
from otel_coach.exposition.scopes import one_for_each_name

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_PROMETHEUS_NAMES = {metric.name: metric.prometheus_name for metric in CATALOGUE}
_NANOSECONDS = 1e9
_ARGUMENTS: Final = frozenset(signature(PrometheusMetricReader).parameters)
"""What the stock reader of the installed version takes: `registry` from 0.63, `scope_info_enabled`
from 0.64 on; before, it wrote no labels of scopes."""

_Bucket = tuple[str, tuple[tuple[str, str], ...], str]
"""A family's name, the labels of a series and the upper bound of a bucket."""


def gets_metrics() -> bool:
    """Whether the stock reader is handed what was collected by the method that is overridden."""
    return callable(getattr(PrometheusMetricReader, "_receive_metrics", None))


class ExemplarReader(PrometheusMetricReader):
    """Keeps each bucket's last exemplar: the SDK hands one over once and forgets it.

    It serves `registry` alone, and writes no labels of scopes. An exemplar names the trace and the
    span of a sampled request and nothing else; what a View has stripped, and the SDK keeps as
    filtered attributes, stays behind.
    """

    def __init__(self, registry: CollectorRegistry, *, disable_target_info: bool) -> None:
        wanted: dict[str, Any] = {"registry": registry, "scope_info_enabled": False}
        known = {name: value for name, value in wanted.items() if name in _ARGUMENTS}
        super().__init__(disable_target_info, **known)
        self._own_registry = registry
        if "registry" not in _ARGUMENTS:
            # Those versions know the default registry only, whose page is the application's.
            REGISTRY.unregister(self._collector)
            registry.register(self._collector)
        self._exemplars: dict[_Bucket, Exemplar] = {}
        self.changes = Changes()
        self._is_asked_for_changes = False

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing: the figures of a flush that nobody asked for would be shown a second time."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if "registry" in _ARGUMENTS:
            super().shutdown(timeout_millis, **kwargs)
        else:
            self._own_registry.unregister(self._collector)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        if not metrics_data:
            return
        metrics_data = one_for_each_name(metrics_data)
        if self._is_asked_for_changes:
            metrics_data = self.changes.of(metrics_data)
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    name = _PROMETHEUS_NAMES.get(metric.name)
                    if name is not None and isinstance(metric.data, Histogram):
                        for point in metric.data.data_points:
                            self._keep(name, point)

    def _keep(self, name: str, point: HistogramDataPoint) -> None:
        labels = _sorted((point.attributes or {}).items())
        for exemplar in point.exemplars:
            if not exemplar.trace_id or not exemplar.span_id:
                continue
            ids = {
                "trace_id": format_trace_id(exemplar.trace_id),
                "span_id": format_span_id(exemplar.span_id),
            }
            bounds = (bound for bound in point.explicit_bounds if exemplar.value <= bound)
            self._exemplars[name, labels, str(next(bounds, "+Inf"))] = Exemplar(
                ids, exemplar.value, exemplar.time_unix_nano / _NANOSECONDS
            )

    @contextmanager
    def only_changes(self) -> Generator[None]:
        """Meanwhile the registry has only what changed since it was collected so."""
        self._is_asked_for_changes = True
        try:
            yield
        finally:
            self._is_asked_for_changes = False

    def forget_exemplars(self) -> None:
        """After a fork: the parent's are not this process's."""
        self._exemplars.clear()
        self.changes.forget()

    def add_exemplars(self, families: Iterable[Metric]) -> None:
        """Put them on the buckets of `families`, which this reader's registry collected."""
        for family in families:
            if family.type != "histogram":
                continue
            for place, sample in enumerate(family.samples):
                if "le" in sample.labels:
                    labels = _sorted((k, v) for k, v in sample.labels.items() if k != "le")
                    kept = self._exemplars.get((family.name, labels, sample.labels["le"]))
                    if kept is not None:
                        family.samples[place] = sample._replace(exemplar=kept)


def _sorted(labels: Iterable[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in labels))
