"""What a person wants to see of a page: a few tables, as rates, quantiles and totals.

`otel-coach top` and the page for browsers show the same `SECTIONS`; each column says from which
family of the page it is computed, and how. `readings.py` computes them for the terminal, the
script of `http/browser.html` for a browser.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from otel_coach.metrics.catalogue import (
    AI_ABANDONED_COST,
    AI_REQUEST_DURATION,
    AI_STREAMS_ACTIVE,
    AI_TIME_TO_FIRST_CHUNK,
    AUTH_FAILURES,
    DEPENDENCY_LATENCY,
    DEPENDENCY_UP,
    EMBEDDING_LATENCY,
    EMBEDDING_REQUESTS,
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
    from collections.abc import Mapping

    from otel_coach.metrics.catalogue import Metric


class How(Enum):
    """How a figure is computed from the samples of its family."""

    TOTAL = "total"
    """The counter's value; of a histogram, the number of its observations."""
    RATE = "rate"
    """Per second."""
    HOURLY = "hourly"
    """Per hour."""
    VALUE = "value"
    """The gauge's value, added up over several services."""
    LOWEST = "lowest"
    """The gauge's lowest value, also over several services."""
    MEDIAN = "median"
    """Seconds, of the observations in the interval; of all observations if it has none."""
    P95 = "p95"
    """The 95th percentile, likewise."""
    RATIO = "ratio"
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
    """What the total is divided by."""

    @property
    def is_usd(self) -> bool:
        """Whether the figure is in US dollars."""
        return self.metric in {LLM_COST, AI_ABANDONED_COST}

    @property
    def if_absent(self) -> float:
        """The figure if there is no sample: 0 for a count; a cost may just be unknown."""
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


def _calls(requests: Metric, latency: Metric) -> tuple[Column, ...]:
    """Returns the columns of what is called: how often, with what result, in what time."""
    return (
        Column("calls", requests),
        Column("error", requests, where=_FAILED),
        Column("p50", latency, How.MEDIAN),
        Column("p95", latency, How.P95),
    )


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
            Column("USD/AI request", LLM_COST, How.RATIO, per=AI_REQUEST_DURATION),
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
            Column("embeddings", EMBEDDING_REQUESTS),
            Column("error", LLM_REQUESTS, where=_FAILED),
            Column("p50", LLM_LATENCY, How.MEDIAN),
            Column("p95", LLM_LATENCY, How.P95),
            Column("1st token", LLM_TIME_TO_FIRST_TOKEN, How.MEDIAN),
            Column("tokens/s", LLM_TOKENS, How.RATE),
            Column("USD", LLM_COST),
            Column("USD/h", LLM_COST, How.HOURLY),
            Column("USD/call", LLM_COST, How.RATIO, per=LLM_REQUESTS),
            Column("unmeasured", LLM_UNMEASURED),
        ),
    ),
    Section(
        "Embeddings",
        (MODEL,),
        _calls(EMBEDDING_REQUESTS, EMBEDDING_LATENCY),
    ),
    Section(
        "Tools",
        (TOOL_NAME,),
        _calls(TOOL_CALLS, TOOL_LATENCY),
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
            Column("up", DEPENDENCY_UP, How.LOWEST),
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
                    "counted": count_name(column.metric),
                    "how": column.how.value,
                    "where": column.where,
                    "per": None if column.per is None else count_name(column.per),
                    "usd": column.is_usd,
                    "bad": column.bad,
                }
                for column in section.columns
            ],
        }
        for section in SECTIONS
    ]


def count_name(metric: Metric) -> str:
    """Returns the name of the samples that count: of a histogram, those of its observations."""
    name = metric.prometheus_name
    return f"{name}_count" if metric.buckets else name
