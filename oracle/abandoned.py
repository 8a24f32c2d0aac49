"""`python -m oracle.abandoned --n 100000`: what is left in memory of runs that nobody ended.

In turn: a stream that the garbage collector closes, a stream that its reader closes, and a call
whose task is cancelled, of which LangChain reports nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, FakeListChatModel
from pydantic import PrivateAttr

from otel_coach.settings import Settings
from otel_coach.testing import measuring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_coach.testing import Measured

_PARTS = 10
_AT_ONCE = 500
_PAGE_BYTES = 4096
_BOUND = 5
"""Bytes of Python's memory for each run; one that is kept costs over a thousand."""


class Endless(FakeListChatModel):
    """A model whose answer never comes."""

    _was_asked: bool = PrivateAttr(default=False)

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        self._was_asked = True
        await asyncio.Event().wait()

    async def asked(self) -> None:
        """Until it is asked once more."""
        while not self._was_asked:  # noqa: ASYNC110 - an event belongs to one loop, this to many
            await asyncio.sleep(0)
        self._was_asked = False


_MODEL: BaseChatModel = FakeListChatModel(responses=["one two three"])
_ENDLESS = Endless(responses=[""])


def abandon(measured: Measured, count: int) -> None:
    """Start `count` runs and end none of them."""
    for begin in range(0, count, _AT_ONCE):
        asyncio.run(_abandon(min(_AT_ONCE, count - begin)))
        measured.forget_spans()
    gc.collect()


async def _abandon(count: int) -> None:
    for number in range(count):
        match number % 3:
            case 0:
                next(_MODEL.stream("hi"))
            case 1:
                stream = _MODEL.astream("hi")
                await anext(stream)
                await stream.aclose()  # type: ignore[attr-defined]
            case _:
                task = asyncio.create_task(_ENDLESS.ainvoke("hi"))
                await _ENDLESS.asked()
                task.cancel()
                await asyncio.wait([task])


def resident_bytes() -> int:
    """Of this process, as Linux counts them."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def growth(count: int) -> Iterator[tuple[int, int]]:
    """Runs so far and the bytes that Python holds, ten times, after a first tenth to warm up.

    Raises:
        AssertionError: not each run was counted as aborted.
    """
    with measuring(Settings()) as measured:
        part = count // _PARTS
        abandon(measured, part)
        tracemalloc.start(1)
        try:
            for number in range(1, _PARTS + 1):
                abandon(measured, part)
                yield number * part, tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        aborted = measured.page().sum("agent_llm_requests_total", status="aborted")
        if aborted != part * (_PARTS + 1):
            message = f"{aborted:g} runs counted instead of {part * (_PARTS + 1)}"
            raise AssertionError(message)


def kept_for_each(rows: Sequence[tuple[int, int]]) -> float:
    """Bytes that stay for each run between the first and the last of `growth`'s rows."""
    (first_runs, first), (last_runs, last) = rows[0], rows[-1]
    return (last - first) / (last_runs - first_runs)


def main() -> int:
    """Exit code 0 if memory stays flat."""
    parser = argparse.ArgumentParser(prog="python -m oracle.abandoned", description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="how many runs")
    arguments = parser.parse_args()
    rows: list[tuple[int, int]] = []
    for runs, traced in growth(arguments.n):
        resident = resident_bytes() / 1e6
        print(f"{runs} abandoned runs: {traced} bytes, {resident:.1f} MB resident", flush=True)
        rows.append((runs, traced))
    kept = kept_for_each(rows)
    print(f"{kept:.2f} bytes kept for each run; {_BOUND} are the bound")
    return 0 if kept < _BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
