"""Measures what many label sets, many open streams and their leaving at once cost, beside bare.

Streams: clients open them, read a first part, and wait with the model. Then all hang up at once,
while another client asks for /health all the time: its longest wait is the stall.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import psutil

from tests.support import pages
from verification.bench.cold import cpu_clock
from verification.bench.crowd_app import GROUPS, IN_GROUP, path_of
from verification.bench.goals import as_markdown, middle_half
from verification.bench.load import Client
from verification.bench.variants import ALONE_WITH_BARE, services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.bench.variants import Service

_APP: Final = "verification.bench.crowd_app:app"
_LABEL_SETS: Final = (1, 100, GROUPS * IN_GROUP)
_ROUND: Final = 1000
"""Requests of each service in a round, whichever number of routes they are divided among."""
_AT_ONCE: Final = 200
"""Connections that are opened side by side: a server's backlog has an end."""
_PAUSE: Final = 0.002
_WATCHED: Final = 4.0
"""Seconds after the leaving in which /health is asked for."""
_HEADINGS: Final = ("CPU us/request", *(f"{count:,} label sets" for count in _LABEL_SETS))
_STREAM_HEADINGS: Final = ("", "kB/stream", "of bare", "stall, ms", "of bare", "leaving, CPU s")


def by_label_sets(rounds: int) -> str:
    """Returns a table: what a request costs, by the number of routes that are asked."""
    cells: dict[str, list[str]] = {}
    with services(ALONE_WITH_BARE, app=_APP) as started, ExitStack() as stack:
        clients = [stack.enter_context(Client(service.port)) for service in started]
        for count in _LABEL_SETS:
            paths = [path_of(number % count) for number in range(_ROUND)]
            took: list[list[float]] = [[] for _ in started]
            for number in range(rounds + 1):
                for service, client, mine in zip(started, clients, took, strict=True):
                    before = cpu_clock(service)
                    for path in paths:
                        client.ask(path, 1)
                    if number:  # the first round meets each route for the first time
                        mine.append(1e6 * (cpu_clock(service) - before) / _ROUND)
            bare = took[0]
            cells.setdefault("bare", []).append(f"{statistics.median(bare):.0f}")
            for service, mine in zip(started[1:], took[1:], strict=True):
                added = [own - other for own, other in zip(mine, bare, strict=True)]
                cell = f"{statistics.median(added):+.0f} ({middle_half(added, 0)})"
                cells.setdefault(f"{service.variant.name}, added", []).append(cell)
    return as_markdown(([name, *row] for name, row in cells.items()), _HEADINGS)


def by_streams(streams: int) -> str:
    """Returns a table: the memory of open streams, and the stall when all leave at once."""
    rows: list[Sequence[str]] = []
    bare: tuple[float, float] | None = None
    for variant in ALONE_WITH_BARE:
        with services((variant,), app=_APP) as (service,):
            memory, stall, cpu = asyncio.run(_crowd(service, streams))
        bare = bare or (memory, stall)
        of_bare = (f"{memory / bare[0]:.2f}", f"{stall / bare[1]:.2f}")
        rows.append(
            (variant.name, f"{memory:.1f}", of_bare[0], f"{stall:.0f}", of_bare[1], f"{cpu:.2f}")
        )
    return as_markdown(rows, _STREAM_HEADINGS)


async def _crowd(service: Service, streams: int) -> tuple[float, float, float]:
    """Returns kB of memory for each stream, ms of stall, and CPU seconds of the leaving."""
    warm = [await _opened(service.port) for _ in range(_AT_ONCE)]
    for writer in warm:
        writer.transport.abort()
    await asyncio.sleep(1)
    before = _memory(service)
    writers: list[asyncio.StreamWriter] = []
    while len(writers) < streams:
        count = min(_AT_ONCE, streams - len(writers))
        writers += await asyncio.gather(*(_opened(service.port) for _ in range(count)))
    await asyncio.sleep(2)
    memory = (_memory(service) - before) / streams / 1e3
    used = cpu_clock(service)
    watcher = _Watcher(service.port)
    await asyncio.sleep(0.2)
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(_WATCHED)
    return memory, 1e3 * watcher.longest(), cpu_clock(service) - used


async def _opened(port: int) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /endless HTTP/1.1\r\nHost: bench\r\n\r\n")
    await reader.readuntil(b"begin\n")
    return writer


def _memory(service: Service) -> float:
    return psutil.Process(service.process.pid).memory_full_info().uss


class _Watcher:
    """Asks for /health again and again, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._client = Client(port)
        self._waits: list[float] = []
        self._is_over = False
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        with self._client as client:
            while not self._is_over:
                began = time.perf_counter()
                client.ask("/health", 1)
                self._waits.append(time.perf_counter() - began)
                time.sleep(_PAUSE)

    def longest(self) -> float:
        """Ends it; returns the longest wait, in seconds."""
        self._is_over = True
        self._thread.join()
        return max(self._waits)


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(prog="python -m verification.bench.crowd", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--streams", type=int, default=5000)
    pages.add_write(parser)
    arguments = parser.parse_args()
    tables = (
        by_label_sets(arguments.rounds),
        f"{arguments.streams:,} streams:",
        by_streams(arguments.streams),
    )
    pages.show("bench-crowd", "\n\n".join(tables), arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
