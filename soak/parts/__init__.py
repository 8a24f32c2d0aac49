"""One hardship each: what a real server with several workers does in it, as figures."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What came of a part."""

    figures: dict[str, float] = field(default_factory=dict[str, float])
    problems: list[str] = field(default_factory=list[str])

    def check(self, problem: str, *, unless: bool) -> None:
        """Note `problem`."""
        if not unless:
            self.problems.append(problem)
