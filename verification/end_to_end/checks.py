"""Sends known requests, and compares what the back ends' query APIs then answer."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import httpx

from examples.coaching.demo.checks import AI_ENDPOINTS, NOT_USED, at_rest, expectations
from otel_coach.testing import Page
from tests.support.promtool import complaints
from tests.support.users import CHAT, Users, one_round
from tools.monitoring import expressions
from verification.end_to_end.backends import COLLECTOR_CONFIG, DIRECT_JOB, JOB, RULES, url
from verification.end_to_end.prometheus import Job
from verification.end_to_end.tools import find

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from examples.coaching.demo.checks import Sums
    from tests.support.stack import Stack
    from verification.end_to_end.jaeger import Trace
    from verification.end_to_end.prometheus import Prometheus
    from verification.end_to_end.report import Report
    from verification.end_to_end.stack import WholeStack

CHAT_WITH_A_TOOL: Final = (
    f"POST {CHAT}",
    "  invoke_agent LangGraph",
    "    chat gpt-3.5-turbo",
    "    execute_tool recent_activities",
    "      SELECT activities",
    "    chat gpt-3.5-turbo",
)
_SLOW: Final = "[delay:3] Think long"
_SLOW_SECONDS: Final = 2.5
"""A bucket's bound that the slow request exceeds."""
_USERS: Final = 24
_DOWN: Final = 2.0
"""Seconds without a Collector."""
_SETTLED: Final = 30.0
_ALERT: Final = 240.0


def configurations(report: Report, folder: Path) -> None:
    """Checks that the deployed files are valid for the programs that read them."""
    report.chapter("The deployed files, read by their programs")
    promtool = find("promtool")
    for question, command in (
        ("otelcol validate", [find("otelcol"), "validate", f"--config={COLLECTOR_CONFIG}"]),
        ("promtool check config", [promtool, "check", "config", folder / "prometheus.yml"]),
        ("promtool check rules", [promtool, "check", "rules", RULES]),
        ("promtool test rules", [promtool, "test", "rules", RULES.with_name("rules_test.yml")]),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        report.equal(question, "valid", "valid" if not done.returncode else done.stdout[-600:])


def counts(report: Report, stack: WholeStack, users: Users) -> None:
    """Compares every metric after one round, in both jobs of Prometheus."""
    one_round(users, stack.service, lambda _: None)
    for job in (JOB, DIRECT_JOB):
        report.chapter(f"One round of users through 4 workers, as Prometheus has it in job {job}")

        def found(figures: Sums) -> list[tuple[str, float, float]]:
            return list(expectations(figures, users.notes, stack.service.provider.ledger))

        def is_right(rows: list[tuple[str, float, float]]) -> bool:
            return all(expected == asked for _, expected, asked in rows)

        for what, expected, asked in at_rest(
            partial(found, Job(stack.prometheus, job)), is_right, _SETTLED
        ):
            report.equal(what, float(expected), float(asked))


def formats(report: Report, stack: WholeStack) -> None:
    """Checks the pages of the service and the Collector with promtool."""
    report.chapter("The pages on the way")
    for name, base in (
        ("the service's page", stack.service.url),
        ("the Collector's page", url(stack.ports.collector_page)),
    ):
        text = httpx.get(f"{base}/metrics", timeout=20).text
        Page(text)  # raises if a family is there twice
        report.equal(f"promtool check metrics, {name}", [], complaints(find("promtool"), text))


def traces(report: Report, stack: WholeStack, users: Users) -> None:
    """Checks that Jaeger has one trace for each request, and the whole tree of one of them."""
    report.chapter("Traces, as Jaeger has them")
    jaeger = stack.jaeger
    sent = _requests_sent(users)
    found = at_rest(lambda: _requests(jaeger.traces()), lambda all_: all_ == sent, _SETTLED)
    for name, count in sent.items():
        report.equal(f"traces of {name}", count, found[name])
    calls = [
        span for trace in jaeger.traces() for span in trace.spans if span.name.startswith("chat ")
    ]
    report.equal("chat spans", len(stack.service.provider.ledger), len(calls))
    tool = {"gen_ai.tool.name": "recent_activities"}
    trace = jaeger.traces(tool)[0]
    report.equal("the chat with a tool", "\n".join(CHAT_WITH_A_TOOL), "\n".join(trace.tree()))
    for name, attributes in _expected_attributes(stack.service).items():
        (span, *_) = sorted(
            (span for span in trace.spans if span.name == name), key=lambda span: span.start
        )
        for key, value in attributes.items():
            report.equal(f"{name}: {key}", value, span.tags.get(key))
        report.fails(f"{name}: is an error", span.is_error)
    failed = [root for trace in jaeger.traces() for root in trace.roots if root.is_error]
    statuses = sorted(str(span.tags.get("http.response.status_code")) for span in failed)
    # The chat whose provider broke off was answered with 200, so its server span is no error.
    report.equal("statuses of the requests that are errors", "502", " ".join(statuses))


def _expected_attributes(stack: Stack) -> dict[str, dict[str, object]]:
    first = next(entry for entry in stack.provider.ledger if entry.tool_call is not None)
    return {
        f"POST {CHAT}": {
            "http.route": CHAT,
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "span.kind": "server",
        },
        "invoke_agent LangGraph": {"gen_ai.operation.name": "invoke_agent"},
        "chat gpt-3.5-turbo": {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-3.5-turbo",
            "gen_ai.usage.input_tokens": first.prompt_tokens,
            "gen_ai.usage.output_tokens": first.completion_tokens,
            "span.kind": "client",
        },
        "execute_tool recent_activities": {"gen_ai.tool.name": "recent_activities"},
        "SELECT activities": {
            "db.query.summary": "SELECT activities",
            "db.system": "postgresql",
        },
    }


def exemplars(report: Report, stack: WholeStack, users: Users) -> None:
    """Checks that a slow bucket's exemplar leads to its trace in Jaeger."""
    users.plan(_SLOW)
    for job in (JOB, DIRECT_JOB):
        report.chapter(f"From a slow bucket to its trace, in job {job}")
        expression = f'app_ai_request_duration_seconds_bucket{{job="{job}"}}'

        def slow(expression: str = expression) -> list[tuple[str, float]]:
            return [
                (exemplar["labels"]["trace_id"], float(exemplar["value"]))
                for exemplar in stack.prometheus.exemplars(expression)
                if float(exemplar["value"]) > _SLOW_SECONDS
            ]

        found = at_rest(slow, bool, _SETTLED)
        report.holds("the slow bucket has an exemplar", found)
        for trace_id, seconds in found[:1]:
            trace = at_rest(lambda wanted=trace_id: stack.jaeger.trace(wanted), bool, _SETTLED)
            lasted = trace.roots[0].duration / 1e6 if trace else 0.0
            report.holds("its trace is in Jaeger", trace is not None)
            report.equal("and lasted as long", f"{seconds:.2f} s", f"{lasted:.2f} s")


def collector_killed(report: Report, stack: WholeStack, users: Users) -> None:
    """Kills the Collector while users chat, and starts it again: no trace may be lost."""
    report.chapter(f"The Collector killed for {_DOWN:g} s, with {_USERS} chats under way")
    crowd = [Users(stack.service) for _ in range(_USERS)]
    threads = [
        threading.Thread(target=user.chat, args=("[tool:weather] [pace:0.1] [tokens:20] Hi",))
        for user in crowd
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    stack.backends.collector.stop(signal.SIGKILL)
    time.sleep(_DOWN)
    stack.backends.restart_collector()
    for thread in threads:
        thread.join()
    for user in crowd:
        user.close()
        users.notes.answers += user.notes.answers
    sent = _requests_sent(users)
    found = at_rest(stack.jaeger.traces, lambda all_: _requests(all_) == sent, _SETTLED)
    report.equal("traces of chats", sent[f"POST {CHAT}"], _requests(found)[f"POST {CHAT}"])
    report.equal("traces in pieces", 0, sum(len(trace.roots) != 1 for trace in found))


def database_killed(report: Report, stack: WholeStack, users: Users) -> None:
    """Kills PostgreSQL: its alert must fire, and resolve when PostgreSQL is back."""
    report.chapter("PostgreSQL killed, and back")
    alert = "DependencyDown"
    report.fails("the alert fires before", stack.prometheus.is_firing(alert))
    stack.database.kill()
    with suppress(httpx.HTTPError):  # the service breaks off the response
        users.chat("[tool:recent_activities] And without a database?")
    fired = at_rest(lambda: stack.prometheus.is_firing(alert), bool, _ALERT)
    report.holds("it fires while the database is down", fired)
    stack.database.start()
    resolved = at_rest(lambda: not stack.prometheus.is_firing(alert), bool, _ALERT)
    report.holds("it resolves when the database is back", resolved)


def queries(report: Report, prometheus: Prometheus) -> None:
    """Checks that all expressions of dashboard, rules and alerts are valid and find data."""
    report.chapter("Every PromQL expression of the dashboard, the rules and the alerts")
    # An alert that does not fire finds no data; the rules' unit tests show that each can fire.
    rules = prometheus.rules()
    alerts = {rule["name"] for rule in rules if rule["type"] == "alerting"}
    asked = dict(expressions())
    found = {where: prometheus.query(expression) for where, expression in asked.items()}
    report.note("expressions asked without an error", len(found))
    unused = {where for where, text in asked.items() if _is_about_what_nobody_called(text)}
    report.note("of these about embedding models and retrievers, which nobody called", len(unused))
    empty = [where for where, series in found.items() if not series and where not in unused]
    silent = [where for where in empty if where.partition(" ")[0] not in alerts]
    report.equal("of those of dashboard and records, find nothing", "none", _listed(silent))
    ill = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    report.equal(f"of {len(rules)} rules fail", "none", _listed(ill))
    report.equal("targets that are down", "none", _listed(prometheus.unreachable()))


def _is_about_what_nobody_called(expression: str) -> bool:
    families = re.findall(r"\b(?:agent|app|http|auth|rate|dependency|otel)_\w+", expression)
    return bool(families) and all(name.startswith(NOT_USED) for name in families)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _requests_sent(users: Users) -> Counter[str]:
    sent = Counter[str]()
    for (endpoint, method, _), count in users.notes.answers.items():
        if endpoint in AI_ENDPOINTS:
            sent[f"{method} {endpoint}"] += count
    return sent


def _requests(traces: Iterable[Trace]) -> Counter[str]:
    names = (root.name for trace in traces for root in trace.roots)
    return Counter(name for name in names if name.endswith(AI_ENDPOINTS))
