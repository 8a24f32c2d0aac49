"""The page's own port, served by itself, and sockets that ask it."""

import resource
import socket
from contextlib import contextmanager, suppress
from email.parser import BytesParser

from otel_coach.prometheus.http.own_port import Address, serve
from otel_coach.prometheus.http.shared_renders import Renders
from otel_coach.workers.log_once import LogOnce
from tests.support.faults import never
from tests.support.programs import free_port

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n\r\n"


class Rendered:
    """A page that is always the same."""

    def __init__(self, body=b"x 1\n", before=lambda: None):
        self.cannot_read = LogOnce()
        self._body = body
        self._before = before

    def render(self, accept, own=None):
        self._before()
        return self._body, "text/plain"


@contextmanager
def served(page=None, host="127.0.0.1", path="/metrics", token=None, fault=never):
    port = free_port()
    stop = serve(Renders(page or Rendered(), fault), Address(host, port, path), token, fault)
    try:
        yield port
    finally:
        stop()


def connect(port, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))


def whole(connection):
    """All that comes until the server hangs up."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def ask(port, request=SCRAPE):
    """Status, headers and body that come for these bytes."""
    with connect(port) as connection:
        connection.sendall(request)
        head, _, body = whole(connection).partition(b"\r\n\r\n")
    first, _, headers = head.partition(b"\r\n")
    return int(first.split()[1]), BytesParser().parsebytes(headers, headersonly=True), body


def is_hung_up(connection):
    with suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


@contextmanager
def many_files():
    """This process may hold the attacker's end of thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
