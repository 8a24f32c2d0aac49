"""Measure all goals in one run, and print them as tables, with a description of the machine."""

from __future__ import annotations

import argparse
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import psutil

from tests.support import pages
from verification.bench import cold, micro, scrape, start, throughput
from verification.bench.goals import Measured, as_markdown

_LIBRARIES: Final = (
    *("opentelemetry-sdk", "opentelemetry-instrumentation-fastapi", "fastapi", "starlette"),
    *("uvicorn", "uvloop", "httptools", "langchain-core", "langchain-openai", "langgraph"),
)


def main() -> int:
    """Returns the exit code, which is always 0: a missed goal is reported, but is no failure."""
    parser = argparse.ArgumentParser(prog="python -m verification.bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=throughput.ROUNDS, help="rounds of throughput"
    )
    pages.add_write(parser)
    arguments = parser.parse_args()
    goals: list[Measured] = []
    details: list[str] = []
    _say("throughput")
    for run in throughput.all_runs(arguments.rounds):
        goals += run.goals
        details.append(run.as_markdown())
        _say(run.title)
    _say("cold")
    found, table = cold.measured()
    goals += found
    details.append(table)
    _say("in one process")
    found, libraries_table = micro.measured()
    goals += found
    details.append(libraries_table)
    _say("scrapes")
    found, line = scrape.measured()
    goals += found
    details.append(line)
    _say("start-up and memory")
    found, rows = start.measured()
    goals += found
    details.append(as_markdown(rows, start.HEADINGS))
    page = "\n\n".join(
        text.strip() for text in (_machine(), as_markdown(goal.row for goal in goals), *details)
    )
    pages.show("bench", page, arguments.write)
    return 0


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def _machine() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    memory = psutil.virtual_memory().total / 1e9
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {psutil.cpu_count()} processors, "
        f"{memory:.0f} GB, {platform.system()}, Python {platform.python_version()}; {libraries}.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
