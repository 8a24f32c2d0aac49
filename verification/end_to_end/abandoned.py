"""Users leave their answers: what that costs is in Prometheus, and what was stopped in Jaeger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from examples.coaching.demo.checks import at_rest
from tests.support.users import LEGACY, PLAN
from verification.end_to_end.backends import DIRECT_JOB, JOB

if TYPE_CHECKING:
    from tests.support.users import Users
    from verification.end_to_end.jaeger import Trace
    from verification.end_to_end.report import Report
    from verification.end_to_end.stack import WholeStack

STOPPED: Final = {"OTEL_COACH_STOP_ABANDONED": LEGACY}
"""Variables of the service: the work at this endpoint is stopped, that of the others goes on."""
_TOKENS: Final = 80
_SETTLED: Final = 30.0
_BETWEEN: Final = 5.0
"""Seconds in which the counters of all earlier calls have been scraped."""
_USD: Final = {"gpt-3.5-turbo": (0.5, 1.5)}
"""US dollars per million tokens, as OpenAI publishes them: input, output."""


def check(report: Report, stack: WholeStack, users: Users) -> None:
    """Leaves a plan, whose agent goes on, and a chat at the endpoint that is stopped."""
    report.chapter("Two users leave: one's agent goes on, the other's is stopped")
    time.sleep(_BETWEEN)
    before = {(what, job): _sum(stack, what, job) for what in _EXPRESSIONS for job in _JOBS}
    known = len(stack.service.provider.ledger)
    users.leave_plan("[delay:1.5] A plan that nobody reads", after=0.5)
    users.leave_chat(f"[pace:0.1] [tokens:{_TOKENS}] Tell me everything", endpoint=LEGACY)
    ledger = at_rest(
        lambda: stack.service.provider.ledger[known:],
        lambda entries: bool(entries) and all(entry.outcome != "open" for entry in entries),
        _SETTLED,
    )
    plan = [entry for entry in ledger if entry.outcome == "complete"]
    report.equal("calls that go on to their end", 1, len(plan))
    report.equal("calls that are broken off", len(ledger) - 1, len(ledger) - len(plan))
    report.holds("by far before their last token", all(_is_early(one) for one in ledger))
    expected = {
        "abandoned tokens": sum(one.prompt_tokens + one.completion_tokens for one in plan),
        "abandoned microdollars": round(sum(map(_microdollars, plan)), 3),
        "stopped runs": 1,
    }
    for job in _JOBS:
        for what, value in expected.items():

            def increase(what: str = what, job: str = job) -> float:
                return round(_sum(stack, what, job) - before[what, job], 3)

            found = at_rest(increase, lambda found, value=value: found == value, _SETTLED)
            report.equal(f"{what}, job {job}", float(value), found)
    tag = {"otel_coach.stopped": "true"}
    traces: list[Trace] = at_rest(lambda: stack.jaeger.traces(tag), bool, _SETTLED)
    report.equal("stopped traces", 1, len(traces))
    for trace in traces:
        (root,) = trace.roots
        report.equal("its root", f"POST {LEGACY}", root.name)
        report.equal("the root's outcome", "aborted", root.tags.get("otel_coach.outcome"))
        report.fails("one of its spans is an error", any(span.is_error for span in trace.spans))


_JOBS: Final = (JOB, DIRECT_JOB)
_EXPRESSIONS: Final = {
    "abandoned tokens": f'sum(app_ai_abandoned_tokens_total{{job="%s",endpoint="{PLAN}"}})',
    "abandoned microdollars": (
        f'1e6 * sum(app_ai_abandoned_cost_usd_total{{job="%s",endpoint="{PLAN}"}})'
    ),
    "stopped runs": f'sum(app_ai_stopped_runs_total{{job="%s",endpoint="{LEGACY}"}})',
}


def _sum(stack: WholeStack, what: str, job: str) -> float:
    return sum(value for _, value in stack.prometheus.query(_EXPRESSIONS[what] % job))


def _microdollars(entry: Any) -> float:
    per_input, per_output = _USD[entry.model]
    return entry.prompt_tokens * per_input + entry.completion_tokens * per_output


def _is_early(entry: Any) -> bool:
    return entry.outcome == "complete" or entry.ended - entry.started < _TOKENS * 0.1 / 2
