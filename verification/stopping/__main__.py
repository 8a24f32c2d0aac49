"""Measures how many tokens are made when a client leaves after a few, and writes the table.

Real uvicorn, real LangChain and LangGraph; the model counts its tokens itself.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from otel_coach import Settings
from otel_coach.testing import measuring
from tests.support import pages
from tests.support.abandoned_models import TOKENS, Notes
from tests.support.abandoned_work import Caller, Work, application
from tests.support.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHAPES: Final = {
    "/streams/model": ("`model.astream`", 1),
    "/streams/graph": ("`graph.astream`, three nodes", 3),
    "/streams/closing-itself": ("the same, with `finally: await stream.aclose()`", 3),
    "/streams/inner-graph": ("a node that runs a graph of three nodes", 3),
    "/streams/parallel": ("three nodes beside one another", 3),
    "/streams/events-v2": ("`graph.astream_events`, version 2", 3),
    "/streams/sync-nodes": ("`graph.astream`, three synchronous nodes", 3),
    "/answers/graph": ("`await graph.ainvoke`, then JSON", 3),
}
"""By path: what it is, and how many calls it makes of 50 tokens each."""
_LEAVES_AFTER: Final = 4


def made(*, stops: bool) -> Iterator[int]:
    """Yields, for each shape, how many tokens were made in all."""
    for path in _SHAPES:
        notes = Notes(pause=0.02)
        settings = Settings(stop_abandoned=stops, stop_after=0)
        with measuring(settings), serving(application(Work(notes))) as client:
            caller = Caller(client.base_url, notes)
            caller.leave(path, after=_LEAVES_AFTER)
            total = caller.rest()
        yield total


def table() -> Iterator[str]:
    """Yields the lines of the table."""
    yield f"| a client leaves after {_LEAVES_AFTER} tokens of | in all | made without | made with |"
    yield "|---|---|---|---|"
    rows = zip(_SHAPES.values(), made(stops=False), made(stops=True), strict=True)
    for (what, calls), without, with_it in rows:
        yield f"| {what} | {calls * TOKENS} | {without} | {with_it} |"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m verification.stopping", description=__doc__)
    pages.add_write(parser)
    arguments = parser.parse_args()
    lines: list[str] = []
    for line in table():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        lines.append(line)
    if arguments.write is not None:
        pages.write(arguments.write, "stopping-table", "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
