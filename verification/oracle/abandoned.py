"""Measures the memory that remains of runs whose end is never reported.

Three kinds take turns: a stream that the garbage collector closes, a stream that its reader closes,
and a call whose task is cancelled, which LangChain does not report.
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
_BATCH = 500
_PAGE_BYTES = 4096
_BOUND = 5
"""Bytes of Python's memory for each run; a run that is kept needs more than a thousand."""


class Endless(FakeListChatModel):
    """A model that never answers."""

    _was_asked: bool = PrivateAttr(default=False)

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        self._was_asked = True
        await asyncio.Event().wait()

    async def asked(self) -> None:
        """Waits until the model is called again."""
        while not self._was_asked:  # noqa: ASYNC110 - an asyncio event belongs to one loop only
            await asyncio.sleep(0)
        self._was_asked = False


_MODEL: BaseChatModel = FakeListChatModel(responses=["one two three"])
_ENDLESS = Endless(responses=[""])


def abandon(measured: Measured, count: int) -> None:
    """Starts `count` runs and ends none of them."""
    for begin in range(0, count, _BATCH):
        asyncio.run(_abandon(min(_BATCH, count - begin)))
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
    """Returns the resident memory of this process, as Linux counts it."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def growth(count: int) -> Iterator[tuple[int, int]]:
    """Yields the runs so far and Python's allocated bytes, ten times, after a tenth to warm up.

    Raises:
        AssertionError: Not every run was counted as aborted.
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
    """Returns the bytes kept per run between the first and the last row of `growth`."""
    (first_runs, first), (last_runs, last) = rows[0], rows[-1]
    return (last - first) / (last_runs - first_runs)


def main() -> int:
    """Returns the exit code: 0 if memory does not grow, 1 if it does."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.oracle.abandoned", description=__doc__
    )
    parser.add_argument("--n", type=int, default=100_000, help="how many runs")
    arguments = parser.parse_args()
    rows: list[tuple[int, int]] = []
    for runs, traced in growth(arguments.n):
        resident = resident_bytes() / 1e6
        print(f"{runs} abandoned runs: {traced} bytes, {resident:.1f} MB resident", flush=True)
        rows.append((runs, traced))
    kept = kept_for_each(rows)
    print(f"{kept:.2f} bytes kept for each run; the bound is {_BOUND}")
    return 0 if kept < _BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
