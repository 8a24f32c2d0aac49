"""Lets otel-coach compare Prometheus' figures with an invoice of the provider's ledger."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import httpx

from examples.coaching.demo.checks import at_rest
from tests.support import invoices
from tests.support.cli import otel_coach
from verification.end_to_end.backends import DIRECT_JOB, JOB, url

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stack import Stack
    from tests.support.users import Users
    from verification.end_to_end.report import Report
    from verification.end_to_end.stack import WholeStack

JOBS: Final = (JOB, DIRECT_JOB)
_SNAPSHOTS: Final = {"gpt-3.5-turbo": "gpt-3.5-turbo-0125"}
_CHATS: Final = 6
_SETTLED: Final = 30.0
_BETWEEN: Final = 5.0
"""Seconds in which the counters of all earlier calls have been scraped."""


def check(report: Report, stack: WholeStack, users: Users, folder: Path) -> None:
    """Compares the invoice of some chats, and of calls beside otel-coach, with each job's metrics.

    The invoice is written into `folder`.
    """
    service, prometheus = stack.service, url(stack.ports.prometheus)
    report.chapter("The provider's invoice, reconciled with Prometheus")
    time.sleep(_BETWEEN)
    known = len(service.provider.ledger)
    begin = int(time.time())
    for number in range(_CHATS):
        users.chat(f"[tool:weather] [cached:{number}] [reasoning:2] How was my week?")
    billed = _tokens(service, known)

    def found(job: str, exit_code: int) -> dict[str, Any]:
        export = folder / "usage.json"
        calls = list(invoices.of_ledger(service.provider.ledger[known:], _SNAPSHOTS))
        export.write_text(invoices.openai_usage(calls, begin=begin))
        asked = ("--prometheus", prometheus, "--selector", f'job="{job}"', "--tolerance", "0")

        def reconciled() -> tuple[int, dict[str, Any]]:
            done = otel_coach("reconcile", str(export), *asked, "--json")
            return done.returncode, json.loads(done.stdout or '{"error": true}')

        def is_right(answer: tuple[int, dict[str, Any]]) -> bool:
            total = answer[1].get("total")
            return total is not None and total["tokens"]["ours"] == billed

        code, answer = at_rest(reconciled, is_right, _SETTLED)
        report.equal(f"exit code, job {job}", exit_code, code)
        return answer

    for job in JOBS:
        answer = found(job, 0)
        (row,) = answer["models"]
        report.equal("matched", "gpt-3.5-turbo-0125", ", ".join(row["their_names"]))
        report.equal("captured share of the tokens", "1.0000", f"{row['tokens']['captured']:.4f}")
    for _ in range(_CHATS):
        body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Beside you"}]}
        httpx.post(f"{service.provider.base_url}/chat/completions", json=body).raise_for_status()
    share = billed / _tokens(service, known)
    for job in JOBS:
        row = found(job, 1)["total"]
        report.equal(
            "captured share with calls that pass by",
            f"{share:.4f}",
            f"{row['tokens']['captured']:.4f}",
        )


def _tokens(service: Stack, known: int) -> int:
    entries = service.provider.ledger[known:]
    return sum(entry.prompt_tokens + entry.completion_tokens for entry in entries)
