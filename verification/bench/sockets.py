"""Measures how fast messages pass through a WebSocket, beside the bare service.

A client sends a message, waits for the same message, and sends the next one; the services take
turns, in blocks of messages.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Final

from websockets.sync.client import connect

from tests.support import pages
from verification.bench.cold import cpu_clock
from verification.bench.goals import as_markdown, middle_half
from verification.bench.variants import ALONE_WITH_BARE, services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.sync.client import ClientConnection

    from verification.bench.variants import Service

_MESSAGES: Final = 500
_HEADINGS: Final = ("", "messages/s of bare", "middle half", "messages/s", "CPU of bare")


def _block(connection: ClientConnection) -> float:
    began = perf_counter()
    for number in range(_MESSAGES):
        connection.send(f"message {number}")
        connection.recv()
    return perf_counter() - began


def _rows(started: Sequence[Service], connections: Sequence[ClientConnection], rounds: int) -> str:
    for connection in connections:
        _block(connection)
    took: list[list[float]] = [[] for _ in started]
    before = [cpu_clock(service) for service in started]
    for number in range(rounds):
        turn = number % len(started)
        pairs = list(zip(connections, took, strict=True))
        for connection, seconds in pairs[turn:] + pairs[:turn]:
            seconds.append(_block(connection))
    used = [cpu_clock(service) - start for service, start in zip(started, before, strict=True)]
    rows: list[Sequence[str]] = []
    for service, seconds, cpu in zip(started, took, used, strict=True):
        ratios = [bare / own for own, bare in zip(seconds, took[0], strict=True)]
        rows.append(
            (
                service.variant.name,
                f"{statistics.median(ratios):.2f}",
                middle_half(ratios, 2),
                f"{_MESSAGES / statistics.median(seconds):,.0f}",
                f"{cpu / used[0]:.2f}",
            )
        )
    return as_markdown(rows, _HEADINGS)


def main() -> int:
    """Prints a row for each variant."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.sockets", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=40)
    pages.add_write(parser)
    arguments = parser.parse_args()
    with services(ALONE_WITH_BARE) as started, ExitStack() as stack:
        connections = [
            stack.enter_context(connect(f"ws://127.0.0.1:{service.port}/echo"))
            for service in started
        ]
        table = _rows(started, connections, arguments.rounds)
    pages.show("bench-sockets", table, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
