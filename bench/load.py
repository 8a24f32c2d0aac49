"""A client of raw sockets, in a process of its own, which loads several services in turns.

`python -m bench.load PATH ANSWERS ROUNDS PORT...` prints, for each service and round, the seconds
that it took to answer so many requests; and the CPU seconds that the client used itself: as long as
those are far below the time it took, it is not what limits the services.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECTIONS: Final = 8
_APART: Final = 6
"""Reads from one connection before the next one asks for the first time: streams in step would let
the garbage collector always find the same moment of them."""
_ACKNOWLEDGE_AT_ONCE: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Load(NamedTuple):
    """How one service answered."""

    seconds: list[float]
    """For so many answers, by round."""
    client: float
    """CPU seconds of the client, in all rounds."""


def loads(path: str, answers: int, rounds: int, ports: Sequence[int]) -> list[Load]:
    """Load the services at `ports` in turns, from a process of its own."""
    command = [sys.executable, "-m", "bench.load", path, str(answers), str(rounds)]
    command += [str(port) for port in ports]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return [Load(*one) for one in json.loads(done.stdout)]


@dataclass
class _Connection:
    socket: socket.socket
    unread: bytes = b""
    reads: int = 0

    def answered(self) -> bool:
        """Read what is there; whether an answer is complete."""
        block = self.socket.recv(262_144)
        self.reads += 1
        # uvicorn's worker processes leave Nagle's algorithm on, and write an answer in two pieces:
        # the second would wait 40 ms for the acknowledgment of the first. Linux forgets this.
        if _ACKNOWLEDGE_AT_ONCE is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, _ACKNOWLEDGE_AT_ONCE, 1)
        if not block:
            message = "the server closed the connection"
            raise ConnectionError(message)
        self.unread += block
        head, end, body = self.unread.partition(b"\r\n\r\n")
        if not end:
            return False
        if b"chunked" in head:
            done = body.endswith(b"0\r\n\r\n")
        else:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            done = len(body) >= length
        if done:
            self.unread = b""
        return done


def run(port: int, path: str, answers: int) -> float:
    """The seconds that `answers` answers take, over connections that never pause."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    with ExitStack() as open_now:
        ready = open_now.enter_context(selectors.DefaultSelector())
        for _ in range(_CONNECTIONS):
            one = open_now.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(one, selectors.EVENT_READ, _Connection(one))
        connections: list[_Connection] = [key.data for key in ready.get_map().values()]
        waiting = deque(connections[:answers])
        asked, answered = len(waiting), 0
        started = perf_counter()
        last = waiting.popleft()
        last.socket.sendall(request)
        while answered < answers:
            for key, _ in ready.select():
                if done := key.data.answered():
                    answered += 1
                    if asked < answers:
                        key.data.socket.sendall(request)
                        asked += 1
                if waiting and key.data is last and (done or last.reads >= _APART):
                    last = waiting.popleft()
                    last.socket.sendall(request)
        return perf_counter() - started


def main() -> None:
    """Load all ports in turns; which comes first changes from round to round."""
    path, answers, rounds, *ports = sys.argv[1:]
    seconds: dict[str, list[float]] = {port: [] for port in ports}
    client = dict.fromkeys(ports, 0.0)
    for number in range(int(rounds)):
        turn = number % len(ports)
        for port in ports[turn:] + ports[:turn]:
            busy = process_time()
            seconds[port].append(run(int(port), path, int(answers)))
            client[port] += process_time() - busy
    print(json.dumps([(seconds[port], client[port]) for port in ports]))


if __name__ == "__main__":
    main()
