"""Alerts on the service level objectives: how fast their error budgets are used up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_coach.metrics.catalogue import AI_REQUEST_DURATION, AI_TIME_TO_FIRST_CHUNK
from tools.monitoring.objectives import (
    AVAILABILITY,
    BURNS,
    FIRST_CHUNK_SECONDS,
    FIRST_CHUNK_SHARE,
    MINIMUM_BAD,
    Burn,
)
from tools.monitoring.promql import FAILED, JUDGED, all_of, ratio, share
from tools.monitoring.rule import ALL_JOBS, Alert, Record

if TYPE_CHECKING:
    from collections.abc import Callable


_PERIOD_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Objective:
    """A service level objective: at least `share` of all events are good."""

    alert: str
    record: str
    share: float
    bad_share: Callable[[str], str]
    """Returns the expression for the share of bad events in a window."""
    bad: Callable[[str], str]
    """Returns the expression for the number of bad events in a window."""
    summary: str
    what: str


def _failed_share(window: str) -> str:
    return share(
        ALL_JOBS.rate(AI_REQUEST_DURATION, window, FAILED),
        ALL_JOBS.rate(AI_REQUEST_DURATION, window, JUDGED),
    )


def _failed(window: str) -> str:
    return ALL_JOBS.increase(AI_REQUEST_DURATION, window, FAILED)


def _slow_share(window: str) -> str:
    in_time = ALL_JOBS.within(AI_TIME_TO_FIRST_CHUNK, FIRST_CHUNK_SECONDS, window)
    return f"1 -\n{ratio(in_time, ALL_JOBS.rate(AI_TIME_TO_FIRST_CHUNK, window))}"


def _slow(window: str) -> str:
    in_time = ALL_JOBS.within(AI_TIME_TO_FIRST_CHUNK, FIRST_CHUNK_SECONDS, window, "increase")
    return f"{ALL_JOBS.increase(AI_TIME_TO_FIRST_CHUNK, window)}\n-\n{in_time}"


OBJECTIVES: Final = (
    Objective(
        alert="AiAvailabilityBudgetBurn",
        record="job:app_ai_request_errors_per_request:ratio_rate",
        share=AVAILABILITY,
        bad_share=_failed_share,
        bad=_failed,
        summary="users' AI requests end in error",
        what="of the AI requests ended in error",
    ),
    Objective(
        alert="AiFirstChunkBudgetBurn",
        record="job:app_ai_slow_first_chunks_per_stream:ratio_rate",
        share=FIRST_CHUNK_SHARE,
        bad_share=_slow_share,
        bad=_slow,
        summary="users wait too long for the first chunk of an answer",
        what=f"of the streams began after more than {FIRST_CHUNK_SECONDS:g} s",
    ),
)


def _burning(objective: Objective, burn: Burn) -> Alert:
    budget = round(1 - objective.share, 6)
    too_much = f"{burn.factor:g} * {budget:g}"
    return Alert(
        objective.alert,
        all_of(
            f"{objective.record}{burn.long} > {too_much}",
            f"{objective.record}{burn.short} > {too_much}",
            f"{objective.bad(burn.long)}\n> {MINIMUM_BAD}",
        ),
        summary=f"{{{{ $labels.job }}}}: {objective.summary}",
        description=f"In {burn.long} {{{{ $value | humanizePercentage }}}} {objective.what}. "
        f"At {100 * burn.factor * budget:g}% the budget of {_PERIOD_DAYS} days is used up within "
        f"{_PERIOD_DAYS / burn.factor:.2g} days.",
        hold=burn.hold,
        keep=burn.keep,
        severity=burn.severity,
        labels={"long": burn.long, "short": burn.short},
    )


_WINDOWS: Final = dict.fromkeys(window for burn in BURNS for window in (burn.short, burn.long))

RECORDS: Final = tuple(
    Record(f"{objective.record}{window}", objective.bad_share(window))
    for objective in OBJECTIVES
    for window in _WINDOWS
)
ALERTS: Final = tuple(_burning(objective, burn) for objective in OBJECTIVES for burn in BURNS)
