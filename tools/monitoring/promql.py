"""Builds PromQL expressions for the catalogue's metrics; no other file here writes a metric name.

Every expression keeps the label `job`. A service may be scraped both directly and through a
Collector: these two jobs show the same requests, so their sum would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_coach.metrics.catalogue import InstrumentKind
from otel_coach.metrics.labels import ABORTED, ERROR, OK, STATUS

if TYPE_CHECKING:
    from otel_coach.metrics.catalogue import Metric

JOB: Final = "job"
INSTANCE: Final = "instance"

SUCCEEDED: Final = f'{STATUS}="{OK}"'
FAILED: Final = f'{STATUS}="{ERROR}"'
LEFT: Final = f'{STATUS}="{ABORTED}"'
JUDGED: Final = f'{STATUS}!="{ABORTED}"'
"""Selects the requests that count as good or bad: all but those that users left."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Builds expressions; each of `filters` applies to all metrics that have its label."""

    filters: tuple[tuple[str, str], ...] = ()

    def select(self, metric: Metric, *matchers: str, part: str = "") -> str:
        """Returns a selector of `metric`; `part` is a histogram's `_bucket`, `_count` or `_sum`."""
        filters = [f"{label}{match}" for label, match in self.filters if label in _labels(metric)]
        matching = ",".join((*filters, *matchers))
        return f"{metric.prometheus_name}{part}" + (f"{{{matching}}}" if matching else "")

    def rate(
        self,
        metric: Metric,
        window: str,
        *matchers: str,
        by: tuple[str, ...] = (),
        change: str = "rate",
        offset: str = "",
    ) -> str:
        """Returns the events per second of a counter, or a histogram's observations per second."""
        part = "_count" if metric.kind is InstrumentKind.HISTOGRAM else ""
        series = self.select(metric, *matchers, part=part)
        when = f" offset {offset}" if offset else ""
        return f"{_grouped('sum', metric, by)} ({change}({series}[{window}]{when}))"

    def rate_of_all(
        self,
        metrics: tuple[Metric, ...],
        window: str,
        *matchers: str,
        by: tuple[str, ...] = (),
        change: str = "rate",
    ) -> str:
        """Returns the events per second of several counters together, whose labels differ.

        With `change="increase"`, returns their number in the window.
        """
        # `or` keeps all series: a sum would have no result while one of the counters has none.
        series = "\n  or\n  ".join(
            f"{change}({self.select(metric, *matchers)}[{window}])" for metric in metrics
        )
        return f"{_grouped('sum', metrics[0], by)} (\n  {series}\n)"

    def increase(
        self, metric: Metric, window: str, *matchers: str, by: tuple[str, ...] = ()
    ) -> str:
        """Returns the number of events in the window."""
        return self.rate(metric, window, *matchers, by=by, change="increase")

    def within(self, metric: Metric, bound: float, window: str, change: str = "rate") -> str:
        """Returns the events per second that took no longer than `bound`, the bound of a bucket.

        With `change="increase"`, returns their number in the window.

        Raises:
            ValueError: the metric has no bucket with this bound.
        """
        if bound not in metric.buckets:
            message = f"{metric.prometheus_name} has no bucket {bound:g}"
            raise ValueError(message)
        # prometheus_client writes le="5.0", a Collector le="5".
        whole = "([.]0)?" if bound.is_integer() else ""
        bucket = self.select(metric, f'le=~"{bound:g}{whole}"', part="_bucket")
        return f"sum by ({JOB}) ({change}({bucket}[{window}]))"

    def quantile(
        self, share: float, metric: Metric, window: str, *, by: tuple[str, ...] = ()
    ) -> str:
        """Returns the time within which `share` of the events ended."""
        buckets = self.select(metric, part="_bucket")
        return (
            f"histogram_quantile({share:g}, {_grouped('sum', metric, (*by, 'le'))} "
            f"(rate({buckets}[{window}])))"
        )

    def grouped(self, operator: str, metric: Metric, *, by: tuple[str, ...] = ()) -> str:
        """Returns the current values of a gauge, aggregated by `operator`."""
        return f"{_grouped(operator, metric, by)} ({self.select(metric)})"


def ratio(part: str, whole: str) -> str:
    """Returns `part` divided by `whole`; it has no result before the first event of `part`."""
    return f"{part}\n/\n{whole}"


def share(part: str, whole: str) -> str:
    """Returns the same ratio for display: 0, not missing, before the first event of `part`."""
    return f"(\n  {part}\n  or\n  0 * {whole}\n)\n/\n{whole}"


def spread(parts: str, whole: str, *on: str) -> str:
    """Returns each of `parts` divided by `whole`; `parts` have more labels than `job` and `on`."""
    return f"{parts}\n/ on ({', '.join((JOB, *on))}) group_left ()\n{whole}"


def all_of(*conditions: str) -> str:
    """Returns the conjunction of `conditions`, with the value of the first one."""
    return "\nand\n".join(conditions)


def _labels(metric: Metric) -> tuple[str, ...]:
    return (JOB, INSTANCE, *metric.labels)


def _grouped(operator: str, metric: Metric, by: tuple[str, ...]) -> str:
    """Returns `operator` with its grouping by `job` and the labels `by`.

    Raises:
        ValueError: the metric lacks one of the labels, so that all series would be one group.
    """
    for label in by:
        if label not in (*_labels(metric), "le"):
            message = f"{metric.prometheus_name} has no label {label}"
            raise ValueError(message)
    return f"{operator} by ({', '.join((JOB, *by))})"
