"""What stands around the models: tools, access, dependencies, and what measures all this."""

from __future__ import annotations

from typing import Final

from monitoring.panel import CHOSEN, EACH, SERVICE, Look, Panel, Row, one, tail
from monitoring.promql import FAILED, INSTANCE, JOB
from otel_coach.catalogue import (
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
from otel_coach.vocabulary import DEPENDENCY_NAME, ENDPOINT, ERROR_TYPE, STATUS, TOOL_NAME

_RARE: Final = "1h"
"""A window in which what happens seldom can be seen."""

TOOLS: Final = Row(
    "Tools",
    (
        Panel(
            "Tool calls",
            "reqps",
            "A tool that the agent no longer calls, or calls over and over, is a prompt that "
            "changed.",
            one(CHOSEN.rate(TOOL_CALLS, EACH, by=(TOOL_NAME,)), "{{tool_name}}"),
            Look.STACKED,
        ),
        Panel(
            "Tool failures",
            "reqps",
            "By class of exception. The agent may hide them from users: answers get worse, not "
            "fewer.",
            one(
                CHOSEN.rate(TOOL_CALLS, EACH, FAILED, by=(TOOL_NAME, ERROR_TYPE)),
                "{{tool_name}} {{error_type}}",
            ),
        ),
        Panel(
            "Tool latency, p95",
            "s",
            "Each call is a wait between two calls of the model. A point is a trace.",
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
            "invalid_token everywhere at once: a signing key or a clock; missing_credentials: a "
            "client that was never configured, or a scanner; rejected: credentials that are "
            "known and not enough.",
            one(
                CHOSEN.rate(AUTH_FAILURES, EACH, by=(STATUS, ERROR_TYPE)),
                "{{status}} {{error_type}}",
            ),
        ),
        Panel(
            "Auth failures by endpoint",
            "reqps",
            "One endpoint: one client of it; all: a key, or somebody who tries them all.",
            one(CHOSEN.rate(AUTH_FAILURES, EACH, by=(ENDPOINT,)), "{{endpoint}}"),
        ),
        Panel(
            "Rate limit hits",
            "reqps",
            "429 that the service answers. With the usual load: the limit is too low; with a "
            "rise: it works.",
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
            "Down as soon as one instance cannot reach it. Compare with the errors of users: a "
            "dependency that is down without any is one that the service can do without.",
            one(
                SERVICE.grouped("min", DEPENDENCY_UP, by=(DEPENDENCY_NAME,)), "{{dependency_name}}"
            ),
            Look.STATES,
        ),
        Panel(
            "Probe duration, p95",
            "s",
            "A rise towards the probe's timeout comes before the failure.",
            tail(DEPENDENCY_LATENCY, DEPENDENCY_NAME, exemplars=False),
        ),
        Panel(
            "Failed probes",
            "reqps",
            "A few now and then are the network; a steady rate is a dependency that is down.",
            one(
                SERVICE.rate(DEPENDENCY_LATENCY, EACH, FAILED, by=(DEPENDENCY_NAME,)),
                "{{dependency_name}}",
            ),
        ),
    ),
)

INSTRUMENTATION: Final = Row(
    "The instrumentation itself",
    (
        Panel(
            "Instances measured",
            "short",
            "Fewer than run: some are not scraped, and every figure above is too low.",
            one(
                f"count by ({JOB}) ({SERVICE.grouped('count', ERRORS, by=(INSTANCE,))})", "{{job}}"
            ),
        ),
        Panel(
            "Label values past their budget",
            "short",
            "In an hour. Above 0, some series are counted as `other`: raise that label's "
            "OTEL_COACH_BUDGET_..., or find what makes values up. Sums stay right.",
            one(CHOSEN.increase(LABEL_OVERFLOW, _RARE, by=(ERROR_TYPE,)), "{{error_type}}"),
        ),
        Panel(
            "Telemetry lost on its way",
            "short",
            "In an hour. spans_queue_full: more spans are made than the back end takes; "
            "..._export: it refused, was away or answered too late. Figures on this page are not "
            "affected.",
            one(CHOSEN.increase(LOST, _RARE, by=(ERROR_TYPE,)), "{{error_type}}"),
        ),
        Panel(
            "Faults of the instrumentation",
            "short",
            "In an hour. Users saw nothing of them; figures may lack what was being measured. "
            "The log of otel_coach has the place.",
            one(CHOSEN.increase(ERRORS, _RARE, by=(ERROR_TYPE,)), "{{error_type}}"),
        ),
    ),
)
