"""Sends requests of which every part is new, many at a time, over one connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PIPELINED: Final = 50
_REASONS: Final = ("invalid_token", "made_up_{n}", "", "x" * 200 + "{n}")


def junk(n: int) -> bytes:
    """Returns a request with a new path, method, Host, X-Forwarded-*, query, cookie and trace."""
    path = "/echo" if n % 2 else f"/nowhere/{n}/%0a%00/{n:x}"
    method = ("GET", "POST", f"VERB{n}")[n % 3]
    challenge = f'Bearer error="{_REASONS[n % 4].format(n=n)}", realm="realm {n}"'
    return (
        f"{method} {path}?token=secret-{n}&user={n} HTTP/1.1\r\n"
        f"Host: host-{n}.example\r\n"
        f"X-Forwarded-Host: forwarded-{n}\r\nX-Forwarded-Proto: proto{n}\r\n"
        f"X-Forwarded-For: 10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}\r\n"
        f"Cookie: session={n}\r\nUser-Agent: agent-{n}\r\n"
        f"traceparent: 00-{n + 1:032x}-{n + 1:016x}-01\r\ntracestate: vendor=state{n}\r\n"
        f"baggage: user={n}\r\n"
        f"X-Status: {(200, 401, 403, 429, 500)[n % 5] if n % 10 else 200 + n % 400}\r\n"
        f"X-Challenge: {challenge}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def good(_: int) -> bytes:
    """Returns an ordinary request."""
    return b"GET /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


def send(address: tuple[str, int], request: Callable[[int], bytes], begin: int, count: int) -> None:
    """Sends `count` requests, and reads their responses.

    Raises:
        ConnectionError: The server closed the connection too early.
    """
    with socket.create_connection(address) as connection, connection.makefile("rb") as answers:
        for first in range(begin, begin + count, _PIPELINED):
            numbers = range(first, min(first + _PIPELINED, begin + count))
            connection.sendall(b"".join(map(request, numbers)))
            for _ in numbers:
                _read(answers)


def _read(answers: socket.SocketIO) -> None:
    if not answers.readline():
        message = "the server closed the connection"
        raise ConnectionError(message)
    length = 0
    while (line := answers.readline()) not in {b"\r\n", b""}:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)
