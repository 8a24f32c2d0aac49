"""Alerts on the service's dependencies, and on the instrumentation itself."""

from __future__ import annotations

from typing import Final

from otel_coach.metrics.catalogue import DEPENDENCY_UP, ERRORS, LABEL_OVERFLOW, LOST
from otel_coach.metrics.labels import DEPENDENCY_NAME, ERROR_TYPE
from tools.monitoring.objectives import DEPENDENCY_UP_SHARE, LOST_AT_ONCE, PAGE
from tools.monitoring.promql import INSTANCE, JOB
from tools.monitoring.rule import ALL_JOBS, Alert, Record

_INSTANCES: Final = Record(
    "job:otel_coach_instances:count",
    # This family is on every page from the start, so an instance without it is not scraped.
    f"count by ({JOB}) ({ALL_JOBS.grouped('count', ERRORS, by=(INSTANCE,))})",
)

RECORDS: Final = (_INSTANCES,)
ALERTS: Final = (
    Alert(
        "DependencyDown",
        # An average, so that a dependency that goes up and down counts as down too.
        f"min by ({JOB}, {DEPENDENCY_NAME}) "
        f"(avg_over_time({ALL_JOBS.select(DEPENDENCY_UP)}[2m]))\n< {DEPENDENCY_UP_SHARE:g}",
        summary="{{ $labels.job }}: {{ $labels.dependency_name }} does not answer",
        description="At least one instance could not reach it for most of the last 2 minutes.",
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
        # Many in an hour, or a few that continue: the restart of a Collector raises no alert.
        f"{ALL_JOBS.increase(LOST, '1h', by=(ERROR_TYPE,))} > {LOST_AT_ONCE:g}\nor\n"
        f"{ALL_JOBS.increase(LOST, '10m', by=(ERROR_TYPE,))} > 0",
        summary="{{ $labels.job }}: telemetry is lost ({{ $labels.error_type }})",
        description='{{ $value | printf "%.0f" }} spans, points or records were not confirmed by '
        "any back end. The service itself works.",
        hold="15m",
        keep="1h",
    ),
    Alert(
        "OtelCoachErrors",
        f"{ALL_JOBS.increase(ERRORS, '1h', by=(ERROR_TYPE,))} > 0",
        summary="{{ $labels.job }}: otel-coach itself fails ({{ $labels.error_type }})",
        description='{{ $value | printf "%.0f" }} faults in 1h. Users did not notice; figures may '
        "be too low.",
        hold="5m",
        keep="1h",
    ),
    Alert(
        "OtelCoachTargetDown",
        # Only targets that exposed otel-coach's metrics within the last day: others are not ours.
        f"up == 0\nand on ({JOB}, {INSTANCE})\nlast_over_time({ALL_JOBS.select(ERRORS)}[1d])",
        summary="{{ $labels.job }}: {{ $labels.instance }} cannot be scraped",
        description="Its figures are missing from every sum; the service itself may still work.",
        hold="5m",
        keep="5m",
    ),
    Alert(
        "OtelCoachTargetMissing",
        f"last_over_time({_INSTANCES.name}[1d])\nunless\n{_INSTANCES.name}",
        summary="{{ $labels.job }}: metrics have stopped arriving",
        description="It had {{ $value }} instances within the last day; none exposes metrics now, "
        "so no other alert can fire for it.",
        hold="5m",
        keep="5m",
        severity=PAGE,
    ),
)
