"""Prints the report: what is in force, then what to mend, as text or as JSON."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING

import otel_coach
from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.terminal import say
from otel_coach.core.traps import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Results = Mapping[str, Sequence[Finding | Fact]]
    """What was found, by the subject that was looked at."""


def exit_code(results: Results) -> int:
    """Returns 1 if there is something to mend, else 0."""
    return int(len(_right(results)) < len(results))


def print_text(by_subject: Results) -> None:
    """Prints one line for each fact, three for each finding, and which subjects are right."""
    results = [*chain.from_iterable(by_subject.values())]
    for result in results:
        if isinstance(result, Fact):
            say(result.text)
    findings = [result for result in results if isinstance(result, Finding)]
    for finding in sorted(findings, key=_is_to_mend):
        say(f"{'to mend' if _is_to_mend(finding) else 'note'}: {finding.what}")
        say(f"    why: {finding.trap.why}")
        say(f"    cure: {finding.cure}")
    count = sum(map(_is_to_mend, findings))
    say(f"right: {', '.join(_right(by_subject)) or 'nothing'}")
    say(f"{count} to mend" if count else "nothing to mend")


def print_json(by_subject: Results) -> None:
    """Prints one JSON object, with the same content."""
    results = [*chain.from_iterable(by_subject.values())]
    report = {
        "version": otel_coach.__version__,
        "ok": not exit_code(by_subject),
        "right": _right(by_subject),
        "findings": [
            {
                "trap": result.trap.name,
                "severity": result.trap.severity.value,
                "what": result.what,
                "why": result.trap.why,
                "cure": result.cure,
            }
            for result in results
            if isinstance(result, Finding)
        ],
        "facts": [result.text for result in results if isinstance(result, Fact)],
    }
    print(json.dumps(report, indent=2))


def _right(results: Results) -> list[str]:
    """Returns the subjects in which there is nothing to mend."""
    return [subject for subject, rows in results.items() if not any(map(_is_to_mend, rows))]


def _is_to_mend(result: Finding | Fact) -> bool:
    return isinstance(result, Finding) and result.trap.severity is not Severity.NOTE
