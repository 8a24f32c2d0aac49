"""Alerts on what the service stands on, and on what measures it."""

from __future__ import annotations

from typing import Final

from monitoring.objectives import DEPENDENCY_UP_SHARE, LOST_AT_ONCE, PAGE
from monitoring.promql import INSTANCE, JOB
from monitoring.rule import ALL_JOBS, Alert, Record
from otel_coach.catalogue import DEPENDENCY_UP, ERRORS, LABEL_OVERFLOW, LOST
from otel_coach.vocabulary import DEPENDENCY_NAME, ERROR_TYPE

_INSTANCES: Final = Record(
    "job:otel_coach_instances:count",
    # This family is on every page from the start, so a page without it is not there.
    f"count by ({JOB}) ({ALL_JOBS.grouped('count', ERRORS, by=(INSTANCE,))})",
)

RECORDS: Final = (_INSTANCES,)
ALERTS: Final = (
    Alert(
        "DependencyDown",
        # An average, so that one that comes and goes counts as down too.
        f"min by ({JOB}, {DEPENDENCY_NAME}) "
        f"(avg_over_time({ALL_JOBS.select(DEPENDENCY_UP)}[2m]))\n< {DEPENDENCY_UP_SHARE:g}",
        summary="{{ $labels.job }}: {{ $labels.dependency_name }} does not answer",
        description="At least one instance has not reached it for most of the last minutes.",
        hold="1m",
        keep="2m",
        severity=PAGE,
    ),
    Alert(
        "OtelCoachLabelOverflow",
        f"{ALL_JOBS.increase(LABEL_OVERFLOW, '1h', by=(ERROR_TYPE,))} > 0",
        summary="{{ $labels.job }}: label {{ $labels.error_type }} has more values than its budget",
        description='{{ $value | printf "%.0f" }} measurements in 1h were counted as `other`.',
        hold="5m",
        keep="1h",
    ),
    Alert(
        "OtelCoachTelemetryLost",
        # Many at once, or few that do not end: a Collector that restarts wakes nobody.
        f"{ALL_JOBS.increase(LOST, '1h', by=(ERROR_TYPE,))} > {LOST_AT_ONCE:g}\nor\n"
        f"{ALL_JOBS.increase(LOST, '10m', by=(ERROR_TYPE,))} > 0",
        summary="{{ $labels.job }}: telemetry is lost on its way ({{ $labels.error_type }})",
        description='{{ $value | printf "%.0f" }} spans, points or records were confirmed by no '
        "back end. The service itself works.",
        hold="15m",
        keep="1h",
    ),
    Alert(
        "OtelCoachErrors",
        f"{ALL_JOBS.increase(ERRORS, '1h', by=(ERROR_TYPE,))} > 0",
        summary="{{ $labels.job }}: otel-coach itself fails ({{ $labels.error_type }})",
        description='{{ $value | printf "%.0f" }} faults in 1h. Users saw none of them; figures may'
        " be too low.",
        hold="5m",
        keep="1h",
    ),
    Alert(
        "OtelCoachTargetDown",
        # Only what once showed our figures: other targets are nobody's business here.
        f"up == 0\nand on ({JOB}, {INSTANCE})\nlast_over_time({ALL_JOBS.select(ERRORS)}[1d])",
        summary="{{ $labels.job }}: {{ $labels.instance }} cannot be scraped",
        description="Its figures are missing from every sum; the service itself may well work.",
        hold="5m",
        keep="5m",
    ),
    Alert(
        "OtelCoachTargetMissing",
        f"last_over_time({_INSTANCES.name}[1d])\nunless\n{_INSTANCES.name}",
        summary="{{ $labels.job }}: no figures any more",
        description="Within the last day it had {{ $value }} instances; none shows figures now, so "
        "that no other alert can see it.",
        hold="5m",
        keep="5m",
        severity=PAGE,
    ),
)
