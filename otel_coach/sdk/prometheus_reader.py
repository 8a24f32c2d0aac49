"""OpenTelemetry's Prometheus reader, extended by the exemplars that it leaves out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import Histogram
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client.samples import Exemplar

from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.sdk.changed_points import Changes
from otel_coach.sdk.isolated_reader import IsolatedReader
from otel_coach.sdk.scopes import one_for_each_name

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_PROMETHEUS_NAMES = {metric.name: metric.prometheus_name for metric in CATALOGUE}
_NANOSECONDS = 1e9

_Bucket = tuple[str, tuple[tuple[str, str], ...], str]
"""The name of a family, the labels of a series, and the upper bound of a bucket."""


class ExemplarReader(IsolatedReader):
    """Keeps the last exemplar of each bucket: the SDK reports an exemplar once, then drops it.

    An exemplar names the trace and the span of a sampled request and nothing else: the attributes
    that a View has removed, which the SDK keeps as filtered attributes of the exemplar, are left
    out.
    """

    def __init__(self, registry: CollectorRegistry, *, disable_target_info: bool) -> None:
        super().__init__(registry, disable_target_info=disable_target_info)
        self._exemplars: dict[_Bucket, Exemplar] = {}
        self.changes = Changes()
        self._only_changes = False

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Does nothing: what a flush collects would be shown twice by the next scrape."""
        return True

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        if not metrics_data:
            return
        metrics_data = one_for_each_name(metrics_data)
        if self._only_changes:
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
            exemplar_labels = {
                "trace_id": format_trace_id(exemplar.trace_id),
                "span_id": format_span_id(exemplar.span_id),
            }
            bounds = (bound for bound in point.explicit_bounds if exemplar.value <= bound)
            self._exemplars[name, labels, str(next(bounds, "+Inf"))] = Exemplar(
                exemplar_labels, exemplar.value, exemplar.time_unix_nano / _NANOSECONDS
            )

    @contextmanager
    def only_changes(self) -> Generator[None]:
        """Inside, the registry yields only what changed since it was last collected this way."""
        self._only_changes = True
        try:
            yield
        finally:
            self._only_changes = False

    def forget_exemplars(self) -> None:
        """Called after a fork: the parent's exemplars do not belong to this process."""
        self._exemplars.clear()
        self.changes.forget()

    def add_exemplars(self, families: Iterable[Metric]) -> None:
        """Adds the exemplars to the buckets of `families`, which this reader's registry yielded."""
        for family in families:
            if family.type != "histogram":
                continue
            for index, sample in enumerate(family.samples):
                if "le" in sample.labels:
                    labels = _sorted((k, v) for k, v in sample.labels.items() if k != "le")
                    kept = self._exemplars.get((family.name, labels, sample.labels["le"]))
                    if kept is not None:
                        family.samples[index] = sample._replace(exemplar=kept)


def _sorted(labels: Iterable[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in labels))
