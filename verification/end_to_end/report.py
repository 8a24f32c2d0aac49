"""Reports what the back ends were asked and what they answered, on the console and as a page."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Finding:
    """One question, its expected answer, and the answer that was found."""

    question: str
    expected: str
    found: str

    @property
    def is_right(self) -> bool:
        """Whether both answers are the same."""
        return self.expected == self.found


@dataclass
class Report:
    """The findings of one run; each is printed as soon as it is known."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    chapters: dict[str, list[Finding]] = field(default_factory=dict[str, list[Finding]])

    def chapter(self, name: str) -> None:
        """Begins a chapter, which the following findings belong to."""
        self.chapters[name] = []
        self.console.print(f"[dim]{time.monotonic() - self.started:5.0f} s[/dim]  [bold]{name}[/]")

    def equal(self, question: str, expected: object, found: object) -> None:
        """Adds a finding that is right if both answers are equal."""
        finding = Finding(question, _text(expected), _text(found))
        list(self.chapters.values())[-1].append(finding)
        if finding.is_right:
            self.console.print(f"          {question}: {finding.found}", markup=False)
        else:
            wrong = f"   wrong: {question}: {finding.found} instead of {finding.expected}"
            self.console.print(wrong, style="red", markup=False)

    def holds(self, question: str, answer: object) -> None:
        """Adds a finding that is right if `answer` is true."""
        self.equal(question, expected=True, found=bool(answer))

    def fails(self, question: str, answer: object) -> None:
        """Adds a finding that is right if `answer` is false."""
        self.equal(question, expected=False, found=bool(answer))

    def note(self, question: str, found: object) -> None:
        """Adds a finding that is right whatever was found."""
        self.equal(question, found, found)

    @property
    def wrong(self) -> list[Finding]:
        """The findings that are not right."""
        return [
            finding
            for findings in self.chapters.values()
            for finding in findings
            if not finding.is_right
        ]

    def markdown(self) -> str:
        """Returns all findings as Markdown, with one table for each chapter."""
        lines: list[str] = []
        for name, findings in self.chapters.items():
            lines += [f"## {name}", "", "| question | answer |", "|---|---|"]
            lines += [f"| {finding.question} | {_cell(finding)} |" for finding in findings]
            lines.append("")
        return "\n".join(lines)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(finding: Finding) -> str:
    text = finding.found if finding.is_right else f"{finding.found}, not {finding.expected}"
    return "<br>".join(text.replace("|", "\\|").splitlines()).replace("  ", "&nbsp;&nbsp;")
