"""Fault scenarios: each module puts a real server with several workers through one."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """The results of a part: figures to print, and problems, one line each."""

    figures: dict[str, float] = field(default_factory=dict[str, float])
    problems: list[str] = field(default_factory=list[str])

    def check(self, problem: str, *, unless: bool) -> None:
        """Adds `problem`, unless the condition holds."""
        if not unless:
            self.problems.append(problem)
