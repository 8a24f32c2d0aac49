"""Comments that qualify the page (stale workers, hidden families, budgets); `doctor` reads them.

OpenMetrics has no free comments: they are in the text format only.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "# otel-coach: "
HIDDEN: Final = f"{PREFIX}another family that uses the name %s is not shown; rename one of them\n"
STALE: Final = f"{PREFIX}worker %s does not answer or cannot write; these are its last figures\n"
ALONE: Final = (
    f"{PREFIX}these are the figures of worker %s only; it cannot share them with the others\n"
)
BUDGETS: Final = f"{PREFIX}budgets that differ from their defaults: %s\n"
"""The value is `model=200 endpoint=500`."""


def value(line: str, template: str) -> str | None:
    """Returns the value in `line` of a page; None if the line is not of this `template`."""
    begin, _, end = template.strip().partition("%s")
    if not (line.startswith(begin) and line.endswith(end)) or len(line) < len(begin) + len(end):
        return None
    return line[len(begin) : len(line) - len(end)]
