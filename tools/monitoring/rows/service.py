"""The rows about tools, auth and limits, dependencies, and the instrumentation itself."""

from __future__ import annotations

from typing import Final

from otel_coach.metrics.catalogue import (
    AUTH_FAILURES,
    DEPENDENCY_LATENCY,
    DEPENDENCY_UP,
    ERRORS,
    LABEL_OVERFLOW,
    LOST,
    RATE_LIMIT_HITS,
    TOOL_CALLS,
    TOOL_LATENCY,
)
from otel_coach.metrics.labels import DEPENDENCY_NAME, ENDPOINT, ERROR_TYPE, STATUS, TOOL_NAME
from tools.monitoring.panel import CHOSEN, EACH, SERVICE, Look, Panel, Row, one, tail
from tools.monitoring.promql import FAILED, INSTANCE, JOB

_RARE: Final = "1h"
"""A window long enough to show rare events."""

TOOLS: Final = Row(
    "Tools",
    (
        Panel(
            "Tool calls",
            "reqps",
            "If the agent no longer calls a tool, or calls it over and over, look for a changed "
            "prompt.",
            one(CHOSEN.rate(TOOL_CALLS, EACH, by=(TOOL_NAME,)), "{{tool_name}}"),
            Look.STACKED,
        ),
        Panel(
            "Tool failures",
            "reqps",
            "By class of exception. The agent may hide failures from users: answers then get "
            "worse, not fewer.",
            one(
                CHOSEN.rate(TOOL_CALLS, EACH, FAILED, by=(TOOL_NAME, ERROR_TYPE)),
                "{{tool_name}} {{error_type}}",
            ),
        ),
        Panel(
            "Tool latency, p95",
            "s",
            "Each tool call delays the next LLM call. Each exemplar links to a trace.",
            tail(TOOL_LATENCY, TOOL_NAME),
        ),
    ),
)

AUTH_AND_LIMITS: Final = Row(
    "Auth and limits",
    (
        Panel(
            "Auth failures by reason",
            "reqps",
            "invalid_token everywhere at the same time: a signing key or a clock; "
            "missing_credentials: a client that was never configured, or a scanner; rejected: "
            "credentials that were sent and not accepted.",
            one(
                CHOSEN.rate(AUTH_FAILURES, EACH, by=(STATUS, ERROR_TYPE)),
                "{{status}} {{error_type}}",
            ),
        ),
        Panel(
            "Auth failures by endpoint",
            "reqps",
            "At one endpoint: one of its clients; at all endpoints: a key, or a scanner that tries "
            "them all.",
            one(CHOSEN.rate(AUTH_FAILURES, EACH, by=(ENDPOINT,)), "{{endpoint}}"),
        ),
        Panel(
            "Rate limit hits",
            "reqps",
            "The service's own 429 responses. Under the usual load the limit is too low; under a "
            "higher load it works as intended.",
            one(CHOSEN.rate(RATE_LIMIT_HITS, EACH, by=(ENDPOINT,)), "{{endpoint}}"),
        ),
    ),
)

DEPENDENCIES: Final = Row(
    "Dependencies",
    (
        Panel(
            "Dependencies up",
            "short",
            "Down as soon as one instance cannot reach the dependency. Compare with the errors of "
            "AI requests: if there are none, the service can do without this dependency.",
            one(
                SERVICE.grouped("min", DEPENDENCY_UP, by=(DEPENDENCY_NAME,)), "{{dependency_name}}"
            ),
            Look.STATES,
        ),
        Panel(
            "Probe duration, p95",
            "s",
            "A rise towards the probe's timeout is an early sign of failure.",
            tail(DEPENDENCY_LATENCY, DEPENDENCY_NAME, exemplars=False),
        ),
        Panel(
            "Failed probes",
            "reqps",
            "A few now and then are caused by the network; a steady rate means that the dependency "
            "is down.",
            one(
                SERVICE.rate(DEPENDENCY_LATENCY, EACH, FAILED, by=(DEPENDENCY_NAME,)),
                "{{dependency_name}}",
            ),
        ),
    ),
)

INSTRUMENTATION: Final = Row(
    "Instrumentation",
    (
        Panel(
            "Instances measured",
            "short",
            "If fewer than are running, some instances are not scraped, and all figures above are "
            "too low.",
            one(
                f"count by ({JOB}) ({SERVICE.grouped('count', ERRORS, by=(INSTANCE,))})", "{{job}}"
            ),
        ),
        Panel(
            "Label values over budget",
            "short",
            "Measurements in an hour that were counted as `other`. Above 0, raise that label's "
            "OTEL_COACH_BUDGET_..., or find the code that produces new values. Sums stay right.",
            one(CHOSEN.increase(LABEL_OVERFLOW, _RARE, by=(ERROR_TYPE,)), "{{error_type}}"),
        ),
        Panel(
            "Telemetry lost",
            "short",
            "In an hour. spans_queue_full: more spans are made than the back end accepts; "
            "..._export: the back end refused, was unreachable or answered too late. The figures "
            "on this dashboard are not affected.",
            one(CHOSEN.increase(LOST, _RARE, by=(ERROR_TYPE,)), "{{error_type}}"),
        ),
        Panel(
            "Instrumentation faults",
            "short",
            "In an hour. Users did not notice; the measurements in progress may be missing. The "
            "log of otel_coach shows where a fault happened.",
            one(CHOSEN.increase(ERRORS, _RARE, by=(ERROR_TYPE,)), "{{error_type}}"),
        ),
    ),
)
