"""Every metric, declared once.

Instruments, docs/metrics.md and many tests are derived from this module. `Metric.name` is the name
in OpenTelemetry, `Metric.prometheus_name` the one in Prometheus.
"""

from __future__ import annotations

import re
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Final

from otel_coach.core.record import record
from otel_coach.metrics.labels import (
    ABORTED,
    AUTH_FAILURE_REASONS,
    COMPLETION,
    DEFAULT_SIZES,
    DEPENDENCY_NAME,
    EMBEDDING,
    ENDPOINT,
    ERROR,
    ERROR_TYPE,
    FAULT_TYPES,
    LOSSES,
    METHOD,
    METHODS,
    MODE,
    MODEL,
    NO_MODEL,
    OK,
    OTHER,
    OTHER_METHOD,
    PROMPT,
    STATUS,
    TOOL_NAME,
    UNMEASURED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class InstrumentKind(Enum):
    """The kind of a metric's instrument."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(Enum):
    """How a gauge's values in several workers become one."""

    SUM = "the sum over all live workers"
    LATEST = "the value that was measured last"
    MAX = "the largest value of all live workers"


SECONDS: Final = "s"
_AI_STATUS: Final = {STATUS: (OK, ERROR, ABORTED)}
_METHODS: Final = (*sorted(METHODS), OTHER_METHOD)
_LLM_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 120.0)
_EMBEDDING_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TOOL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_HTTP_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0, 120.0),
)
_PROBE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def family_name(name: str, unit: str) -> str:
    """Returns the name on the page of one of otel-coach's families, without a counter's `_total`.

    OpenTelemetry's Prometheus exporter makes the same name; other instruments may have units that
    only the exporter knows (`sdk/page_names.py`).
    """
    family = re.sub(r"[^a-zA-Z0-9_:]+", "_", name).removesuffix("_total")
    return f"{family}_seconds" if unit == SECONDS and not family.endswith("_seconds") else family


@record
class Metric:
    """One metric family.

    `zeros` lists the label values whose series are 0 from the start, because a rate() over a series
    that appears with its first event misses that event.
    """

    name: str
    kind: InstrumentKind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    closed: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The labels that have a closed set of values, with that set."""
    zeros: tuple[tuple[str, ...], ...] = ()
    merge: Merge = Merge.SUM
    """Applies to gauges; counters and histograms are always added up."""

    @property
    def is_closed(self) -> bool:
        """Whether the catalogue knows all combinations of label values; they need no budget."""
        return len(self.closed) == len(self.labels)

    @property
    def prometheus_name(self) -> str:
        """The family's name by OpenTelemetry's Prometheus compatibility rules."""
        family = family_name(self.name, self.unit)
        return f"{family}_total" if self.kind is InstrumentKind.COUNTER else family


AI_REQUEST_DURATION: Final = Metric(
    "app.ai.request.duration",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (ENDPOINT, MODEL, MODE, STATUS),
    "Requests in which an LLM or an agent ran, from the first byte to the last.",
    _LLM_SECONDS,
    closed=_AI_STATUS,
)
AI_STREAM_CHUNKS: Final = Metric(
    "app.ai.stream.chunks",
    InstrumentKind.COUNTER,
    "{chunk}",
    (ENDPOINT, MODEL, MODE, STATUS),
    "Body chunks handed to the client, added when their stream ends.",
    closed=_AI_STATUS,
)
AI_STREAM_ABORTS: Final = Metric(
    "app.ai.stream.aborts",
    InstrumentKind.COUNTER,
    "{stream}",
    (ENDPOINT, MODEL, MODE, STATUS),
    "Streams that the client left before their end.",
    closed={STATUS: (ABORTED,)},
)
AI_ABANDONED_TOKENS: Final = Metric(
    "app.ai.abandoned.tokens",
    InstrumentKind.COUNTER,
    "{token}",
    (ENDPOINT, MODEL, MODE),
    "Billed tokens of LLM calls that ended after the client of their request had left.",
    closed={MODE: (PROMPT, COMPLETION)},
)
AI_ABANDONED_COST: Final = Metric(
    "app.ai.abandoned.cost_usd",
    InstrumentKind.COUNTER,
    "{USD}",
    (ENDPOINT, MODEL),
    "US dollars for LLM calls that ended after the client of their request had left.",
)
AI_STOPPED_RUNS: Final = Metric(
    "app.ai.stopped_runs",
    InstrumentKind.COUNTER,
    "{run}",
    (ENDPOINT, MODEL, MODE),
    "Outermost runs that otel-coach stopped because the client of their request had left; only "
    "with OTEL_COACH_STOP_ABANDONED.",
)
AI_STREAMS_ACTIVE: Final = Metric(
    "app.ai.streams_active",
    InstrumentKind.GAUGE,
    "{stream}",
    (ENDPOINT,),
    "Streams of AI requests that are open now.",
)
WEBSOCKETS_ACTIVE: Final = Metric(
    "app.websockets_active",
    InstrumentKind.GAUGE,
    "{connection}",
    (ENDPOINT,),
    "WebSockets that are open now.",
)
AI_TIME_TO_FIRST_CHUNK: Final = Metric(
    "app.ai.time_to_first_chunk",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (ENDPOINT, MODEL, MODE),
    "From the request to the first body chunk of its stream.",
    _LLM_SECONDS,
)
LLM_REQUESTS: Final = Metric(
    "agent.llm.requests",
    InstrumentKind.COUNTER,
    "{call}",
    (MODEL, MODE, STATUS, ERROR_TYPE),
    "LLM calls, failed and abandoned ones included.",
    closed=_AI_STATUS,
)
LLM_LATENCY: Final = Metric(
    "agent.llm.latency",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (MODEL, STATUS),
    "LLM calls, from their start to their end.",
    _LLM_SECONDS,
    closed=_AI_STATUS,
)
LLM_TIME_TO_FIRST_TOKEN: Final = Metric(
    "agent.llm.time_to_first_token",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (MODEL,),
    "Streamed LLM calls, from their start to the first chunk with content.",
    _LLM_SECONDS,
)
LLM_TIME_PER_OUTPUT_TOKEN: Final = Metric(
    "agent.llm.time_per_output_token",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (MODEL,),
    "Streamed LLM calls: (last token - first token) / (tokens in the stream - 1).",
    _TOKEN_SECONDS,
)
LLM_TOKENS: Final = Metric(
    "agent.llm.tokens",
    InstrumentKind.COUNTER,
    "{token}",
    (MODEL, MODE),
    f"Billed tokens; mode is {PROMPT}, {COMPLETION} or {EMBEDDING}.",
    closed={MODE: (PROMPT, COMPLETION, EMBEDDING)},
)
LLM_CACHED_TOKENS: Final = Metric(
    "agent.llm.cached_tokens",
    InstrumentKind.COUNTER,
    "{token}",
    (MODEL,),
    "The part of the prompt tokens that the provider read from its cache.",
)
LLM_REASONING_TOKENS: Final = Metric(
    "agent.llm.reasoning_tokens",
    InstrumentKind.COUNTER,
    "{token}",
    (MODEL,),
    "The part of the completion tokens that the model spent on reasoning.",
)
LLM_COST: Final = Metric(
    "agent.llm.cost_usd",
    InstrumentKind.COUNTER,
    "{USD}",
    (MODEL,),
    "US dollars for the calls whose usage and price are known.",
)
LLM_UNMEASURED: Final = Metric(
    "agent.llm.unmeasured",
    InstrumentKind.COUNTER,
    "{call}",
    (MODEL, ERROR_TYPE),
    f"Model calls whose tokens or cost are missing or incomplete: {', '.join(UNMEASURED)}.",
    closed={ERROR_TYPE: UNMEASURED},
    zeros=tuple((NO_MODEL, reason) for reason in UNMEASURED),
)
TOOL_CALLS: Final = Metric(
    "agent.tool.calls",
    InstrumentKind.COUNTER,
    "{call}",
    (TOOL_NAME, STATUS, ERROR_TYPE),
    "Tool calls.",
    closed=_AI_STATUS,
)
TOOL_LATENCY: Final = Metric(
    "agent.tool.latency",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (TOOL_NAME, STATUS),
    "Tool calls, from their start to their end.",
    _TOOL_SECONDS,
    closed=_AI_STATUS,
)
EMBEDDING_REQUESTS: Final = Metric(
    "agent.embedding.requests",
    InstrumentKind.COUNTER,
    "{call}",
    (MODEL, STATUS, ERROR_TYPE),
    "Calls of embedding models, failed and abandoned ones included.",
    closed=_AI_STATUS,
)
EMBEDDING_LATENCY: Final = Metric(
    "agent.embedding.latency",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (MODEL, STATUS),
    "Calls of embedding models, from their start to their end.",
    _EMBEDDING_SECONDS,
    closed=_AI_STATUS,
)
RETRIEVAL_REQUESTS: Final = Metric(
    "agent.retrieval.requests",
    InstrumentKind.COUNTER,
    "{call}",
    (TOOL_NAME, STATUS, ERROR_TYPE),
    "Runs of retrievers; tool_name is the retriever's name.",
    closed=_AI_STATUS,
)
RETRIEVAL_LATENCY: Final = Metric(
    "agent.retrieval.latency",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (TOOL_NAME, STATUS),
    "Runs of retrievers, from their start to their end.",
    _TOOL_SECONDS,
    closed=_AI_STATUS,
)
AUTH_FAILURES: Final = Metric(
    "auth.failures",
    InstrumentKind.COUNTER,
    "{response}",
    (ENDPOINT, METHOD, STATUS, ERROR_TYPE),
    "Responses 401 and 403.",
    closed={METHOD: _METHODS, STATUS: ("401", "403"), ERROR_TYPE: AUTH_FAILURE_REASONS},
)
RATE_LIMIT_HITS: Final = Metric(
    "rate_limit.hits",
    InstrumentKind.COUNTER,
    "{response}",
    (ENDPOINT,),
    "Responses 429.",
)
DEPENDENCY_UP: Final = Metric(
    "dependency.up",
    InstrumentKind.GAUGE,
    "",
    (DEPENDENCY_NAME,),
    "1 if the last probe of the dependency succeeded, else 0.",
    merge=Merge.LATEST,
)
DEPENDENCY_LATENCY: Final = Metric(
    "dependency.latency",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (DEPENDENCY_NAME, STATUS),
    "Probes of a dependency; status is ok or error.",
    _PROBE_SECONDS,
    closed={STATUS: (OK, ERROR)},
)
HTTP_REQUEST_DURATION: Final = Metric(
    "http.server.request.duration",
    InstrumentKind.HISTOGRAM,
    SECONDS,
    (ENDPOINT, METHOD, STATUS),
    "HTTP requests, from first byte to last; status 499: the client left before any response.",
    _HTTP_SECONDS,
    closed={METHOD: _METHODS},
)
PRICE_LIST_AGE: Final = Metric(
    "otel_coach.price_list_age_days",
    InstrumentKind.GAUGE,
    "d",
    (),
    "Age in days of the price list in use, counted from the latest date in it.",
    merge=Merge.MAX,
)
LOST: Final = Metric(
    "otel_coach.lost",
    InstrumentKind.COUNTER,
    "{item}",
    (ERROR_TYPE,),
    "Spans, metric points and log records that no back end confirmed; error_type says where.",
    closed={ERROR_TYPE: LOSSES},
    zeros=tuple((name,) for name in LOSSES),
)
LABEL_OVERFLOW: Final = Metric(
    "otel_coach.label_overflow",
    InstrumentKind.COUNTER,
    "{value}",
    (ERROR_TYPE,),
    "What exceeded a budget: measurements that count as `other` or without labels, and instruments "
    "that are not measured; error_type is the label or limit, or `other` for all of "
    "OTEL_COACH_ADMIT_LABELS.",
    closed={ERROR_TYPE: (*DEFAULT_SIZES, OTHER)},
    zeros=tuple((label,) for label in (*DEFAULT_SIZES, OTHER)),
)
ERRORS: Final = Metric(
    "otel_coach.errors",
    InstrumentKind.COUNTER,
    "{error}",
    (ERROR_TYPE,),
    "Faults inside the instrumentation, swallowed; the application did not see them.",
    closed={ERROR_TYPE: (*FAULT_TYPES, OTHER)},
    zeros=tuple((name,) for name in (*FAULT_TYPES, OTHER)),
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    *(AI_REQUEST_DURATION, AI_STREAM_CHUNKS, AI_STREAM_ABORTS),
    *(AI_ABANDONED_TOKENS, AI_ABANDONED_COST, AI_STOPPED_RUNS),
    *(AI_STREAMS_ACTIVE, WEBSOCKETS_ACTIVE, AI_TIME_TO_FIRST_CHUNK),
    *(LLM_REQUESTS, LLM_LATENCY, LLM_TIME_TO_FIRST_TOKEN, LLM_TIME_PER_OUTPUT_TOKEN),
    *(LLM_TOKENS, LLM_CACHED_TOKENS, LLM_REASONING_TOKENS, LLM_COST, LLM_UNMEASURED),
    *(TOOL_CALLS, TOOL_LATENCY),
    *(EMBEDDING_REQUESTS, EMBEDDING_LATENCY, RETRIEVAL_REQUESTS, RETRIEVAL_LATENCY),
    *(AUTH_FAILURES, RATE_LIMIT_HITS, DEPENDENCY_UP, DEPENDENCY_LATENCY, HTTP_REQUEST_DURATION),
    *(PRICE_LIST_AGE, LOST, LABEL_OVERFLOW, ERRORS),
)
"""All metrics, in the order in which docs/metrics.md and the demo show them."""
