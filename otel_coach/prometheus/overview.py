"""What a person wants to see of a page: a few tables, as rates, quantiles and totals.

`otel-coach top` and the page for browsers show the same `SECTIONS`; each column says from which
family of the page it is computed, and how. The quantiles are those of PromQL's
`histogram_quantile`: linear within a bucket, and the last finite bound beyond it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families

from otel_coach.metrics.catalogue import (
    AI_ABANDONED_COST,
    AI_REQUEST_DURATION,
    AI_STREAMS_ACTIVE,
    AI_TIME_TO_FIRST_CHUNK,
    AUTH_FAILURES,
    DEPENDENCY_LATENCY,
    DEPENDENCY_UP,
    ERRORS,
    HTTP_REQUEST_DURATION,
    LABEL_OVERFLOW,
    LLM_COST,
    LLM_LATENCY,
    LLM_REQUESTS,
    LLM_TIME_TO_FIRST_TOKEN,
    LLM_TOKENS,
    LLM_UNMEASURED,
    LOST,
    RATE_LIMIT_HITS,
    TOOL_CALLS,
    TOOL_LATENCY,
)
from otel_coach.metrics.labels import (
    ABORTED,
    DEPENDENCY_NAME,
    ENDPOINT,
    ERROR,
    ERROR_TYPE,
    MODEL,
    OK,
    STATUS,
    TOOL_NAME,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_coach.metrics.catalogue import Metric

    Key = tuple[str, ...]


class How(Enum):
    """How a figure is computed from the samples of its family."""

    TOTAL = "total"
    """The counter's value; of a histogram, the number of its observations."""
    RATE = "rate"
    """Per second."""
    HOURLY = "hourly"
    """Per hour."""
    VALUE = "value"
    """The gauge's value."""
    MEDIAN = "median"
    """Seconds, of the observations of the time that is looked at; of all where it has none."""
    P95 = "p95"
    """The same, the 95th percentile."""
    SHARE = "share"
    """The total, divided by the total of `per`."""


@dataclass(frozen=True)
class Column:
    """One figure of each row."""

    title: str
    metric: Metric
    how: How = How.TOTAL
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Only samples whose labels have one of these values; `4*` stands for all that begin so."""
    per: Metric | None = None
    """What a share is divided by."""

    @property
    def is_usd(self) -> bool:
        """Whether the figure is in US dollars."""
        return self.metric in {LLM_COST, AI_ABANDONED_COST}

    @property
    def without(self) -> float:
        """The figure where there is no sample: a count is 0 then, a cost may only be unknown."""
        return 0.0 if self.how is How.TOTAL and not self.is_usd else math.nan

    @property
    def bad(self) -> str:
        """Which figures are worth a look: "high" ones (above 0), "low" ones (below 1), or none."""
        return _BAD.get(self.title, "")


_BAD: Final = {
    **dict.fromkeys(("error", "aborted", "USD abandoned", "5xx"), "high"),
    **dict.fromkeys(("failed probes", "unmeasured"), "high"),
    "up": "low",
}


@dataclass(frozen=True)
class Section:
    """A table: one row for each combination of the values of `by`."""

    title: str
    by: tuple[str, ...]
    columns: tuple[Column, ...]


_FAILED: Final = {STATUS: (ERROR,)}

SECTIONS: Final = (
    Section(
        "Service",
        (),
        (
            Column("requests/s", HTTP_REQUEST_DURATION, How.RATE),
            Column("AI requests/s", AI_REQUEST_DURATION, How.RATE),
            Column("streams open", AI_STREAMS_ACTIVE, How.VALUE),
            Column("tokens/s", LLM_TOKENS, How.RATE),
            Column("USD/h", LLM_COST, How.HOURLY),
            Column("USD", LLM_COST),
            Column("USD abandoned", AI_ABANDONED_COST),
            Column("401, 403", AUTH_FAILURES),
            Column("429", RATE_LIMIT_HITS),
        ),
    ),
    Section(
        "AI requests",
        (ENDPOINT,),
        (
            Column("all", AI_REQUEST_DURATION),
            Column("/s", AI_REQUEST_DURATION, How.RATE),
            Column("ok", AI_REQUEST_DURATION, where={STATUS: (OK,)}),
            Column("error", AI_REQUEST_DURATION, where=_FAILED),
            Column("aborted", AI_REQUEST_DURATION, where={STATUS: (ABORTED,)}),
            Column("p50", AI_REQUEST_DURATION, How.MEDIAN),
            Column("p95", AI_REQUEST_DURATION, How.P95),
            Column("1st chunk", AI_TIME_TO_FIRST_CHUNK, How.MEDIAN),
            Column("open", AI_STREAMS_ACTIVE, How.VALUE),
            Column("USD abandoned", AI_ABANDONED_COST),
        ),
    ),
    Section(
        "Models",
        (MODEL,),
        (
            Column("calls", LLM_REQUESTS),
            Column("error", LLM_REQUESTS, where=_FAILED),
            Column("p50", LLM_LATENCY, How.MEDIAN),
            Column("p95", LLM_LATENCY, How.P95),
            Column("1st token", LLM_TIME_TO_FIRST_TOKEN, How.MEDIAN),
            Column("tokens/s", LLM_TOKENS, How.RATE),
            Column("USD", LLM_COST),
            Column("USD/h", LLM_COST, How.HOURLY),
            Column("USD/call", LLM_COST, How.SHARE, per=LLM_REQUESTS),
            Column("unmeasured", LLM_UNMEASURED),
        ),
    ),
    Section(
        "Tools",
        (TOOL_NAME,),
        (
            Column("calls", TOOL_CALLS),
            Column("error", TOOL_CALLS, where=_FAILED),
            Column("p50", TOOL_LATENCY, How.MEDIAN),
            Column("p95", TOOL_LATENCY, How.P95),
        ),
    ),
    Section(
        "HTTP requests",
        (ENDPOINT,),
        (
            Column("all", HTTP_REQUEST_DURATION),
            Column("/s", HTTP_REQUEST_DURATION, How.RATE),
            Column("4xx", HTTP_REQUEST_DURATION, where={STATUS: ("4*",)}),
            Column("5xx", HTTP_REQUEST_DURATION, where={STATUS: ("5*",)}),
            Column("p50", HTTP_REQUEST_DURATION, How.MEDIAN),
            Column("p95", HTTP_REQUEST_DURATION, How.P95),
            Column("401, 403", AUTH_FAILURES),
            Column("429", RATE_LIMIT_HITS),
        ),
    ),
    Section(
        "Dependencies",
        (DEPENDENCY_NAME,),
        (
            Column("up", DEPENDENCY_UP, How.VALUE),
            Column("p95", DEPENDENCY_LATENCY, How.P95),
            Column("failed probes", DEPENDENCY_LATENCY, where=_FAILED),
        ),
    ),
    Section(
        "Not measured, or lost",
        (ERROR_TYPE,),
        (
            Column("calls of models", LLM_UNMEASURED),
            Column("labels", LABEL_OVERFLOW),
            Column("telemetry", LOST),
            Column("faults", ERRORS),
        ),
    ),
)
"""The tables, the most important first."""

_QUANTILES: Final = {How.MEDIAN: 0.5, How.P95: 0.95}
_SECONDS_OF: Final = {How.RATE: 1.0, How.HOURLY: 3600.0}


@dataclass(frozen=True)
class Reading:
    """The samples of a page (or the sums of several pages), and when they were read.

    Raises:
        ValueError: `texts` are not in Prometheus' text format.
    """

    texts: Sequence[str]
    at: float
    """Seconds of a clock that is never adjusted."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = field(init=False)

    def __post_init__(self) -> None:
        samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for text in self.texts:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    samples[sample.name].append((sample.labels, sample.value))
        object.__setattr__(self, "samples", samples)

    def by(
        self, name: str, labels: Sequence[str], where: Mapping[str, tuple[str, ...]]
    ) -> dict[Key, float]:
        """Returns the sums of the samples called `name`, by the values of `labels`."""
        sums: dict[Key, float] = defaultdict(float)
        for found, value in self.samples.get(name, ()):
            if all(_matches(found.get(label, ""), values) for label, values in where.items()):
                sums[tuple(found.get(label, "") for label in labels)] += value
        return sums


Row = tuple["Key", list[float]]
"""The values of the section's labels, and of its columns; nan where there is nothing to show."""


def rows(section: Section, now: Reading, before: Reading | None = None) -> list[Row]:
    """Returns the rows of `section`, those with the largest first figure first.

    Rates and quantiles are those between `before` and `now`; without `before`, there are no rates,
    and the quantiles are those since the start of the service. So are those of a row that has had
    no observation between the two.
    """
    columns = [_figures(section.by, column, now, before) for column in section.columns]
    keys = {key for figures in columns for key, value in figures.items() if value > 0}
    if not section.by:
        keys.add(())
    rest = [column.without for column in section.columns]
    found = [
        (key, [figures.get(key, absent) for figures, absent in zip(columns, rest, strict=True)])
        for key in keys
    ]
    return sorted(found, key=lambda row: (-_or_zero(row[1][0]), row[0]))


def definitions() -> list[dict[str, Any]]:
    """Returns the sections as JSON has them, for the page in a browser."""
    return [
        {
            "title": section.title,
            "by": section.by,
            "columns": [
                {
                    "title": column.title,
                    "name": column.metric.prometheus_name,
                    "counted": _counted(column.metric),
                    "how": column.how.value,
                    "where": column.where,
                    "per": None if column.per is None else _counted(column.per),
                    "usd": column.is_usd,
                    "bad": column.bad,
                }
                for column in section.columns
            ],
        }
        for section in SECTIONS
    ]


def _figures(
    by: Sequence[str], column: Column, now: Reading, before: Reading | None
) -> dict[Key, float]:
    how, where = column.how, column.where
    if (share := _QUANTILES.get(how)) is not None:
        return _quantiles(share, f"{column.metric.prometheus_name}_bucket", by, now, before)
    totals = now.by(_counted(column.metric), by, where)
    if how is How.SHARE and column.per is not None:
        whole = now.by(_counted(column.per), by, {})
        return {key: value / whole[key] for key, value in totals.items() if whole.get(key)}
    if (seconds := _SECONDS_OF.get(how)) is None:
        return totals
    if before is None or now.at <= before.at:
        return {}
    earlier = before.by(_counted(column.metric), by, where)
    passed = (now.at - before.at) / seconds
    return {key: _increase(value, earlier.get(key, 0.0)) / passed for key, value in totals.items()}


def _quantiles(
    share: float, name: str, by: Sequence[str], now: Reading, before: Reading | None
) -> dict[Key, float]:
    all_buckets = _buckets(name, by, now, None)
    lately = _buckets(name, by, now, before)
    return {
        key: _quantile(share, lately[key] if lately[key][-1][1] > 0 else buckets)
        for key, buckets in all_buckets.items()
    }


def _buckets(
    name: str, by: Sequence[str], now: Reading, before: Reading | None
) -> dict[Key, list[tuple[float, float]]]:
    """Returns the cumulative counts between `before` and `now` by their upper bounds, sorted."""
    labels = (*by, "le")
    earlier = {} if before is None else before.by(name, labels, {})
    buckets: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    for (*key, bound), value in now.by(name, labels, {}).items():
        increase = _increase(value, earlier.get((*key, bound), 0.0))
        buckets[tuple(key)].append((float(bound), increase))
    return {key: sorted(pairs) for key, pairs in buckets.items()}


def _quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    """Returns the quantile of cumulative counts by their upper bounds, nan if there are none."""
    rank = share * buckets[-1][1]
    if rank <= 0:
        return math.nan
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _counted(metric: Metric) -> str:
    """Returns the name of the samples that count: of a histogram, those of its observations."""
    name = metric.prometheus_name
    return f"{name}_count" if metric.buckets else name


def _increase(value: float, earlier: float) -> float:
    """Returns by how much a counter has increased; after a restart it began at 0."""
    return value - earlier if value >= earlier else value


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(
        value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
        for pattern in patterns
    )


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
