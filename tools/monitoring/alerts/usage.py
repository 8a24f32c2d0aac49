"""Alerts on the use of the service, on LLM calls and on their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.metrics.catalogue import (
    AI_ABANDONED_COST,
    AI_REQUEST_DURATION,
    AUTH_FAILURES,
    EMBEDDING_REQUESTS,
    LLM_COST,
    LLM_REQUESTS,
    LLM_UNMEASURED,
    PRICE_LIST_AGE,
    RATE_LIMIT_HITS,
)
from otel_coach.metrics.labels import ENDPOINT, ERROR_TYPE, MODEL
from tools.monitoring.objectives import (
    ABANDONED_COST_SHARE,
    ABORTED_MINIMUM_REQUESTS,
    ABORTED_SHARE,
    COST_FACTOR,
    COST_FLOOR_USD_PER_HOUR,
    COST_USUAL,
    MINIMUM_CALLS,
    PRICE_LIST_DAYS,
    PROVIDER_ERROR_SHARE,
    SURGE_FACTOR,
    SURGE_FLOOR_PER_SECOND,
    UNMEASURED_SHARE,
)
from tools.monitoring.promql import FAILED, JOB, JUDGED, LEFT, all_of, ratio, spread
from tools.monitoring.rule import ALL_JOBS, Alert, Record

if TYPE_CHECKING:
    from otel_coach.metrics.catalogue import Metric


def _surge(metric: Metric, *by: str) -> str:
    """Returns a condition for a rate above a floor and far above that of the day before.

    It is also true if there are no data from the day before.
    """
    now = ALL_JOBS.rate(metric, "5m", by=by)
    before = ALL_JOBS.rate(metric, "1d", by=by, offset="1h")
    return f"{now} > {SURGE_FLOOR_PER_SECOND:g}\nunless\n{now}\n<= {SURGE_FACTOR:g} *\n{before}"


_MODEL_CALLS: Final = (LLM_REQUESTS, EMBEDDING_REQUESTS)
"""The calls that LLM_UNMEASURED counts a part of."""
_HOURLY_COST: Final = Record("job:agent_llm_cost_usd:increase1h", ALL_JOBS.increase(LLM_COST, "1h"))
_USUAL_COST: Final = f"quantile_over_time({COST_USUAL:g}, {_HOURLY_COST.name}[7d] offset 1h)"

RECORDS: Final = (_HOURLY_COST,)
ALERTS: Final = (
    Alert(
        "AiRequestsAborted",
        all_of(
            ratio(
                ALL_JOBS.rate(AI_REQUEST_DURATION, "30m", LEFT, by=(ENDPOINT,)),
                ALL_JOBS.rate(AI_REQUEST_DURATION, "30m", by=(ENDPOINT,)),
            )
            + f"\n> {ABORTED_SHARE:g}",
            ALL_JOBS.increase(AI_REQUEST_DURATION, "30m", by=(ENDPOINT,))
            + f"\n> {ABORTED_MINIMUM_REQUESTS:g}",
        ),
        summary="{{ $labels.job }}: users leave {{ $labels.endpoint }} before its answer ends",
        description="{{ $value | humanizePercentage }} of its AI requests were aborted in 30m.",
        hold="10m",
        keep="30m",
    ),
    Alert(
        "AiCostAbandoned",
        all_of(
            ratio(ALL_JOBS.increase(AI_ABANDONED_COST, "6h"), ALL_JOBS.increase(LLM_COST, "6h"))
            + f"\n> {ABANDONED_COST_SHARE:g}",
            ALL_JOBS.increase(AI_ABANDONED_COST, "6h") + f"\n> {6 * COST_FLOOR_USD_PER_HOUR:g}",
        ),
        summary="{{ $labels.job }}: much is paid for answers that no user waits for",
        description="{{ $value | humanizePercentage }} of the cost of LLM calls in 6h came after "
        "the client had left.",
        hold="15m",
        keep="1h",
    ),
    Alert(
        "LlmCostAnomaly",
        all_of(
            f"{_HOURLY_COST.name} > {COST_FLOOR_USD_PER_HOUR:g}",
            f"{_HOURLY_COST.name} > {COST_FACTOR:g} * {_USUAL_COST}",
            # A job without data from a day ago has no past to be compared with.
            f"{_HOURLY_COST.name} offset 1d",
        ),
        summary="{{ $labels.job }}: LLM calls cost far more than usual",
        description='{{ $value | printf "%.2f" }} USD in the last hour: '
        f"more than {COST_FACTOR:g} times what its expensive hours of the last 7 days cost.",
        hold="15m",
        keep="1h",
    ),
    Alert(
        "LlmProviderErrors",
        all_of(
            ratio(
                ALL_JOBS.rate_of_all(_MODEL_CALLS, "10m", FAILED, by=(MODEL,)),
                ALL_JOBS.rate_of_all(_MODEL_CALLS, "10m", JUDGED, by=(MODEL,)),
            )
            + f"\n> {PROVIDER_ERROR_SHARE:g}",
            ALL_JOBS.rate_of_all(_MODEL_CALLS, "10m", JUDGED, by=(MODEL,), change="increase")
            + f"\n> {MINIMUM_CALLS:g}",
        ),
        summary="{{ $labels.job }}: calls to {{ $labels.model }} fail",
        description="{{ $value | humanizePercentage }} of them ended in error in 10m.",
        hold="5m",
        keep="15m",
    ),
    Alert(
        "LlmCallsUnmeasured",
        all_of(
            spread(
                ALL_JOBS.rate(LLM_UNMEASURED, "1h", by=(MODEL, ERROR_TYPE)),
                ALL_JOBS.rate_of_all(_MODEL_CALLS, "1h", by=(MODEL,)),
                MODEL,
            )
            + f"\n> {UNMEASURED_SHARE:g}",
            f"on ({JOB}, {MODEL})\n"
            + ALL_JOBS.rate_of_all(_MODEL_CALLS, "1h", by=(MODEL,), change="increase")
            + f"\n> {MINIMUM_CALLS:g}",
        ),
        summary="{{ $labels.job }}: tokens or cost of {{ $labels.model }} are unknown",
        description="{{ $labels.error_type }} for {{ $value | humanizePercentage }} of its calls.",
        hold="15m",
        keep="1h",
    ),
    Alert(
        "OtelCoachPriceListOld",
        f"{ALL_JOBS.grouped('max', PRICE_LIST_AGE)} > {PRICE_LIST_DAYS:g}",
        summary="{{ $labels.job }}: the prices of LLM calls are out of date",
        description='They are {{ $value | printf "%.0f" }} days old; the cost of models whose '
        "prices changed since is wrong, and newer models have none.",
        hold="1h",
        keep="1h",
    ),
    Alert(
        "AuthFailureSurge",
        _surge(AUTH_FAILURES, ERROR_TYPE),
        summary="{{ $labels.job }}: many 401 or 403 responses ({{ $labels.error_type }})",
        description="{{ $value | humanize }} responses 401 or 403 per second; "
        f"on the day before, it was less than 1/{SURGE_FACTOR:g} of this.",
        hold="5m",
        keep="15m",
    ),
    Alert(
        "RateLimitSurge",
        _surge(RATE_LIMIT_HITS, ENDPOINT),
        summary="{{ $labels.job }}: many requests to {{ $labels.endpoint }} hit the rate limit",
        description="{{ $value | humanize }} responses 429 per second; "
        f"on the day before, it was less than 1/{SURGE_FACTOR:g} of this.",
        hold="5m",
        keep="15m",
    ),
)
