"""PromQL about the catalogue's metrics; no other file here spells a metric's name.

Every expression keeps the label `job`. One service may be scraped directly and through a
Collector: two jobs that show the same requests, and whose sum would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_coach.catalogue import Kind
from otel_coach.vocabulary import ABORTED, ERROR, OK, STATUS

if TYPE_CHECKING:
    from otel_coach.catalogue import Metric

JOB: Final = "job"
INSTANCE: Final = "instance"

SUCCEEDED: Final = f'{STATUS}="{OK}"'
FAILED: Final = f'{STATUS}="{ERROR}"'
LEFT: Final = f'{STATUS}="{ABORTED}"'
JUDGED: Final = f'{STATUS}!="{ABORTED}"'
"""What can be good or bad. A user who left has given no verdict."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Builds expressions; `filters` go into each selector whose metric has their label."""

    filters: tuple[tuple[str, str], ...] = ()

    def select(self, metric: Metric, *matchers: str, part: str = "") -> str:
        """The series of `metric`; `part` is a histogram's `_bucket`, `_count` or `_sum`."""
        ours = [f"{label}{match}" for label, match in self.filters if label in _labels(metric)]
        matching = ",".join((*ours, *matchers))
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
        """Events per second: of a counter, or of what a histogram has seen."""
        part = "_count" if metric.kind is Kind.HISTOGRAM else ""
        series = self.select(metric, *matchers, part=part)
        when = f" offset {offset}" if offset else ""
        return f"{_grouped('sum', metric, by)} ({change}({series}[{window}]{when}))"

    def increase(
        self, metric: Metric, window: str, *matchers: str, by: tuple[str, ...] = ()
    ) -> str:
        """Events in the window."""
        return self.rate(metric, window, *matchers, by=by, change="increase")

    def within(self, metric: Metric, bound: float, window: str, change: str = "rate") -> str:
        """Events that took no longer than `bound`, which is a bucket's.

        Raises:
            ValueError: there is no such bucket.
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
        """The time within which `share` of the events ended."""
        buckets = self.select(metric, part="_bucket")
        return (
            f"histogram_quantile({share:g}, {_grouped('sum', metric, (*by, 'le'))} "
            f"(rate({buckets}[{window}])))"
        )

    def grouped(self, operator: str, metric: Metric, *, by: tuple[str, ...] = ()) -> str:
        """A gauge's values now."""
        return f"{_grouped(operator, metric, by)} ({self.select(metric)})"


def ratio(part: str, whole: str) -> str:
    """How much of `whole` is `part`; missing before the part's first event."""
    return f"{part}\n/\n{whole}"


def share(part: str, whole: str) -> str:
    """The same where it is looked at: 0, not missing, before the first event."""
    return f"(\n  {part}\n  or\n  0 * {whole}\n)\n/\n{whole}"


def spread(parts: str, whole: str, *on: str) -> str:
    """How much of `whole` each of `parts` is; the parts have more labels than `on`."""
    return f"{parts}\n/ on ({', '.join((JOB, *on))}) group_left ()\n{whole}"


def all_of(*conditions: str) -> str:
    """All of `conditions`, with the value of the first."""
    return "\nand\n".join(conditions)


def _labels(metric: Metric) -> tuple[str, ...]:
    return (JOB, INSTANCE, *metric.labels)


def _grouped(operator: str, metric: Metric, by: tuple[str, ...]) -> str:
    """An aggregation by job and `by`, which the metric must have: else all would be one group."""
    for label in by:
        if label not in (*_labels(metric), "le"):
            message = f"{metric.prometheus_name} has no label {label}"
            raise ValueError(message)
    return f"{operator} by ({', '.join((JOB, *by))})"
