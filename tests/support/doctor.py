"""Servers that mean ill, and pages that they send."""

import time
from contextlib import contextmanager, suppress

from tests.support.serving import tcp_server

OK = b"HTTP/1.1 200 OK\r\n"
ERRORS = "otel_coach_errors_total"


@contextmanager
def hostile(pieces, pause=0.0):
    """A server that sends these pieces to each client; yields its address and what it was asked."""
    asked = []

    def answer(connection):
        with connection, suppress(OSError):
            asked.append(connection.recv(65536))
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)

    with tcp_server(answer) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/metrics", asked


def page(text):
    return [OK, b"\r\n", text.encode()]
