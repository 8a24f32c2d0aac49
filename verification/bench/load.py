"""A client of raw sockets, in a process of its own, which loads several services alternately.

Its arguments are PATH ANSWERS ROUNDS PORT... For each service and round it prints the seconds that
the service took for that number of answers, and the CPU seconds that the client itself used: if
these are far fewer, it is not the client that limits the services.
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
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECTIONS: Final = 8
_APART: Final = 6
"""Reads from one connection before the next one sends its first request. If streams were in step,
the garbage collector would always run at the same moment of them."""
_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Load(NamedTuple):
    """The measurements of one service."""

    seconds: list[float]
    """The seconds that each round's answers took."""
    client: float
    """CPU seconds of the client, over all rounds."""


def loads(path: str, answers: int, rounds: int, ports: Sequence[int]) -> list[Load]:
    """Loads the services at `ports` alternately, from a process of its own."""
    command = [sys.executable, "-m", "verification.bench.load", path, str(answers), str(rounds)]
    command += [str(port) for port in ports]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return [Load(*service) for service in json.loads(done.stdout)]


@dataclass
class _Connection:
    socket: socket.socket
    unread: bytes = b""
    reads: int = 0

    def answered(self) -> bool:
        """Reads what has arrived; returns whether an answer is complete."""
        block = self.socket.recv(262_144)
        self.reads += 1
        # uvicorn's worker processes leave Nagle's algorithm on and write an answer in two pieces:
        # the second would wait 40 ms for the acknowledgment of the first. Linux resets this option,
        # so it is set again after each read.
        if _QUICK_ACK is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
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


class Client:
    """One connection to a service, which asks for one answer after the other."""

    def __init__(self, port: int) -> None:
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = _Connection(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.socket.close()

    def ask(self, path: str, answers: int) -> None:
        """Waits for `answers` answers."""
        for _ in range(answers):
            self._connection.socket.sendall(_request(path))
            while not self._connection.answered():
                pass


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def run(port: int, path: str, answers: int) -> float:
    """Returns the seconds that `answers` answers take over connections that never pause."""
    request = _request(path)
    with ExitStack() as open_now:
        ready = open_now.enter_context(selectors.DefaultSelector())
        for _ in range(_CONNECTIONS):
            client = open_now.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(client, selectors.EVENT_READ, _Connection(client))
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
    """Loads all ports alternately; another one comes first in each round."""
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
