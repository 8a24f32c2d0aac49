"""Writes the matrix as docs/truth.md, or checks a file against it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from verification.oracle.endings import ENDINGS
from verification.oracle.matrix import CELLS, LEFT_OUT, OUTLIVES, LeftOut, why_not
from verification.oracle.ways import NO_AI_REQUEST, ROUTES, WAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verification.oracle.endings import Ending
    from verification.oracle.ways import Way

_MARKS: Final = {"ok": "●", "error": "✕", "aborted": "○"}
_INTRODUCTION: Final = """\
# What is proved

<!-- Written by `make docs`; do not edit. -->

Each mark below is one way of calling a model, combined with one way in which the call ends. `make
test-long` sends a real request for each of the {cells} marks, many concurrently, to a real
uvicorn with a real ChatOpenAI. It compares every counter, every histogram's count and every span
with three witnesses that are independent of otel-coach: the provider's ledger, the HTTP transport
of the model's client, and the users. There must be no difference. `make oracle N=10000 SEED=1`
sends any number of random requests; `make oracle N=1 CELLS=stream/astream/break` sends one of
that mark.

The mark is the status of the AI request: {ok} ok, {error} error, {aborted} aborted. The status of
its LLM calls follows from what the provider and the transport saw: ok if the answer was read to its
end, error if the provider failed, aborted if the reader stopped. A dash with a letter is left out,
for the reason given under that letter; an empty cell is no valid combination (a user cannot leave
in the middle of a response that is not streamed). Ways that only embed or retrieve make no AI
request; their mark is what its status would be.
"""


def page() -> str:
    """Returns the whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION.format(cells=len(CELLS), **_MARKS)
    yield "## The ways of ending\n"
    yield "| | ending | what happens |"
    yield "|---|---|---|"
    for number, ending in enumerate(ENDINGS, start=1):
        yield f"| {number} | `{ending.name}` | {ending.what} |"
    for route, what in ROUTES.items():
        yield f"\n## {what[0].upper()}{what[1:]}\n"
        if route in NO_AI_REQUEST:
            yield "There is no AI request; the mark is the status of the LLM calls.\n"
        yield from _table(route)
    yield "\n## Why some combinations are left out\n"
    for left_out in LEFT_OUT:
        yield f"- **{_letter(left_out)}**: {left_out.why}"
    yield "\n## Models that outlive their reader\n"
    yield (
        "In some ways LangChain or LangGraph lets the model run on after its reader has stopped. "
        "Such a call runs to its end, is ok, and its tokens are counted:"
    )
    for way, ending in sorted(OUTLIVES):
        yield f"- `{way}` that ends as `{ending}`"


def _table(route: str) -> Iterator[str]:
    ways = [way for way in WAYS if way.route == route]
    met = {ending: number for number, ending in enumerate(ENDINGS, 1) if route in ending.routes}
    yield f"| way | what is called | {' | '.join(str(number) for number in met.values())} |"
    yield "|---|---|" + "---|" * len(met)
    for way in ways:
        cells = " | ".join(_cell(way, ending) for ending in met)
        yield f"| `{way.name}` | {way.what.replace('|', chr(92) + '|')} | {cells} |"


def _cell(way: Way, ending: Ending) -> str:
    why = why_not(way, ending)
    if why is None:
        return _MARKS[ending.outcome]
    return f"- {_letter(why)}" if why else ""


def _letter(left_out: LeftOut | str) -> str:
    why = left_out if isinstance(left_out, str) else left_out.why
    return "abcdefghijklmnopqrstuvwxyz"[[other.why for other in LEFT_OUT].index(why)]


def main() -> int:
    """Returns the exit code: 0, or 1 if the checked file is out of date."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.oracle.truth", description=__doc__
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE")
    what.add_argument("--check", type=Path, metavar="FILE", help="exit 1 if it is out of date")
    arguments = parser.parse_args()
    if arguments.write:
        arguments.write.write_text(page(), encoding="utf-8")
    elif arguments.check.read_text(encoding="utf-8") != page():
        print(f"{arguments.check} is out of date; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
