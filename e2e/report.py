"""What was asked of the back ends and what they answered, as it comes and as a page."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Finding:
    """One question, the answer that it should have, and the one that it has."""

    question: str
    expected: str
    found: str

    @property
    def is_right(self) -> bool:
        """Whether they are the same."""
        return self.expected == self.found


@dataclass
class Report:
    """The findings of one run, told while they come."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    chapters: dict[str, list[Finding]] = field(default_factory=dict[str, list[Finding]])

    def chapter(self, name: str) -> None:
        """The findings that follow belong to it."""
        self.chapters[name] = []
        self.console.print(f"[dim]{time.monotonic() - self.started:5.0f} s[/dim]  [bold]{name}[/]")

    def equal(self, question: str, expected: object, found: object) -> None:
        """Note what should be equal."""
        finding = Finding(question, _said(expected), _said(found))
        list(self.chapters.values())[-1].append(finding)
        if finding.is_right:
            self.console.print(f"          {question}: {finding.found}")
        else:
            self.console.print(
                f"[red]   wrong: {question}: {finding.found} instead of {finding.expected}[/red]"
            )

    def holds(self, question: str, answer: object) -> None:
        """Note what should be so."""
        self.equal(question, expected=True, found=bool(answer))

    def fails(self, question: str, answer: object) -> None:
        """Note what should not be so."""
        self.equal(question, expected=False, found=bool(answer))

    def note(self, question: str, found: object) -> None:
        """Note what is as it is."""
        self.equal(question, found, found)

    @property
    def wrong(self) -> list[Finding]:
        """What is not as it should be."""
        return [one for chapter in self.chapters.values() for one in chapter if not one.is_right]

    def markdown(self) -> str:
        """As a table for each chapter."""
        lines: list[str] = []
        for name, findings in self.chapters.items():
            lines += [f"## {name}", "", "| question | answer |", "|---|---|"]
            lines += [f"| {one.question} | {_cell(one)} |" for one in findings]
            lines.append("")
        return "\n".join(lines)


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(finding: Finding) -> str:
    text = finding.found if finding.is_right else f"{finding.found}, not {finding.expected}"
    return "<br>".join(text.replace("|", "\\|").splitlines()).replace("  ", "&nbsp;&nbsp;")
