"""Clients that send a request, and leave when they like."""

import socket
from contextlib import contextmanager
from urllib.parse import urlsplit


@contextmanager
def asked(url, target, body=b""):
    """Has sent a request to the server at `url`; leaves when the block ends, reading nothing."""
    parts = urlsplit(str(url))
    method = "POST" if body else "GET"
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(head.encode() + body)
        yield connection
