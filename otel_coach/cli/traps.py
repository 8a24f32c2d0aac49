"""Print all mistakes that doctor knows as a Markdown page, or check a file against that page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli import generated_page
from otel_coach.cli.doctor.traps import TRAPS
from otel_coach.cli.generated_page import add_arguments
from otel_coach.core.traps import Severity, Way

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from otel_coach.core.traps import Trap

EXAMPLES: Final = """\
  otel-coach traps > doctor.md                 each finding, why it matters, its cure
  otel-coach traps --check FILE"""
_INTRODUCTION: Final = """\
# What otel-coach doctor finds

Generated from `otel_coach/core/traps.py` and `otel_coach/cli/doctor/traps/` by `make docs`; do not
edit.

`otel-coach doctor` is called in three ways, which can be combined: in the service's environment;
around the service's command (`otel-coach doctor -- uvicorn app:app`), which imports the application
in a process of its own without serving it; and with the address of a running service's page
(`--url http://localhost:8000/metrics`). `--json` prints the same as JSON.

It also starts otel-coach as the service does, in a process of its own, and reports what that logs.
That process sends nothing, opens no port and ends after a second.

Each finding says what is wrong, why that matters, and what mends it: where a shell command does,
it can be pasted; what follows `#` says more. The exit code is 1 if there is
an error or a warning, 0 otherwise: a note needs no mending. Names in capitals stand for what was
found.
""".splitlines()
_TITLES: Final = {
    Way.ENVIRONMENT: "In the service's environment: `otel-coach doctor`",
    Way.COMMAND: "Around its command: `otel-coach doctor -- COMMAND`",
    Way.PAGE: "Of a running service: `otel-coach doctor --url URL`",
}


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 1 if the checked file is out of date."""
    return generated_page.run(arguments, markdown())


def markdown() -> Iterator[str]:
    """Yields the lines of docs/doctor.md."""
    yield from _INTRODUCTION
    for way, title in _TITLES.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| finding | | why it matters | cure |"
        yield "|---|---|---|---|"
        for trap in TRAPS:
            if trap.way is way:
                yield _row(trap)


def _row(trap: Trap) -> str:
    what, cure = trap.filled(_Names())
    kind = "" if trap.severity is Severity.ERROR else trap.severity.value
    cells = (
        f"**{trap.name}**: {trap.example or what}",
        kind,
        trap.why,
        trap.example_cure or cure,
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


class _Names(dict[str, str]):
    """Stands for the values of a template: each is its own name in capitals."""

    def __missing__(self, key: str) -> str:
        return key.upper()


__all__ = ["add_arguments", "markdown", "run"]
