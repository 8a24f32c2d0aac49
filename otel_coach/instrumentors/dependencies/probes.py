"""How to ask a dependency whether it is there, by the scheme of its address."""

from __future__ import annotations

import functools
import socket
import urllib.request
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Probe(Protocol):
    """Returns if the dependency answers, raises anything if it does not.

    `timeout` (seconds) bounds each step; the caller bounds the whole.
    """

    def __call__(self, timeout: float, /) -> None:
        """Probe once."""
        ...


class UnknownAddressError(ValueError):
    """The address is of no kind that can be probed; the message names the cure, not the address."""


class UnexpectedAnswerError(Exception):
    """Something answers at the address, but not as the dependency would."""


def probe_of(address: str) -> Probe:
    """The probe for `address`.

    Knows postgresql:// (also in SQLAlchemy's spelling, postgresql+psycopg://), redis://,
    http(s):// and tcp://host:port.

    Raises:
        UnknownAddressError: another scheme, or no host where one is needed.
    """
    try:
        url = urlsplit(address)
        scheme, host, _ = url.scheme.partition("+")[0], url.hostname, url.port
    except ValueError:
        message = "is at an address that cannot be read; check its host and port"
        raise UnknownAddressError(message) from None
    make = _PROBES.get(scheme)
    if make is None:
        message = f"has the unknown scheme {scheme!r}; use one of {', '.join(_PROBES)}"
        raise UnknownAddressError(message)
    if not host and scheme not in {"postgresql", "postgres"}:
        message = f"needs a host: {scheme}://host:port"
        raise UnknownAddressError(message)
    return make(url)


def _postgresql(url: SplitResult) -> Probe:
    if find_spec("psycopg") is not None:
        conninfo = url._replace(scheme="postgresql").geturl()
        return functools.partial(_select_one, conninfo)
    return functools.partial(_greet_postgresql, url.hostname or "localhost", url.port or 5432)


def _select_one(conninfo: str, timeout: float, /) -> None:
    import psycopg  # noqa: PLC0415 - only where the host has it

    milliseconds = int(timeout * 1000)
    with psycopg.connect(
        conninfo,
        connect_timeout=max(2, int(timeout)),  # libpq knows whole seconds, from two up
        tcp_user_timeout=milliseconds,
        application_name="otel-coach",
        autocommit=True,
    ) as connection:
        connection.execute(f"SET statement_timeout = {milliseconds}".encode())
        connection.execute(b"SELECT 1")


def _greet_postgresql(host: str, port: int, timeout: float, /) -> None:
    """Without a driver: the SSLRequest of PostgreSQL's protocol, answered by one letter."""
    answer = _ask(host, port, b"\x00\x00\x00\x08\x04\xd2\x16\x2f", timeout)
    if answer[:1] not in {b"S", b"N"}:
        raise UnexpectedAnswerError


def _redis(url: SplitResult) -> Probe:
    return functools.partial(_ping_redis, url.hostname or "localhost", url.port or 6379)


def _ping_redis(host: str, port: int, timeout: float, /) -> None:
    # A server that asks for a password (-NOAUTH) is up.
    if not _ask(host, port, b"PING\r\n", timeout).startswith((b"+PONG", b"-NOAUTH")):
        raise UnexpectedAnswerError


def _http(url: SplitResult) -> Probe:
    return functools.partial(_get, url.geturl())


def _get(url: str, timeout: float, /) -> None:
    # Raises for 4xx and 5xx. No proxy: the probe asks the dependency itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers={"User-Agent": "otel-coach"})  # noqa: S310 - http(s)
    with closing(opener.open(request, timeout=timeout)):
        pass


def _tcp(url: SplitResult) -> Probe:
    if not url.port:
        message = "needs a port: tcp://host:port"
        raise UnknownAddressError(message)
    return functools.partial(_connect, url.hostname or "localhost", url.port)


def _connect(host: str, port: int, timeout: float, /) -> None:
    socket.create_connection((host, port), timeout).close()


def _ask(host: str, port: int, question: bytes, timeout: float) -> bytes:
    with socket.create_connection((host, port), timeout) as connection:
        connection.sendall(question)
        return connection.recv(64)


_PROBES: Final[Mapping[str, Callable[[SplitResult], Probe]]] = {
    "postgresql": _postgresql,
    "postgres": _postgresql,
    "redis": _redis,
    "http": _http,
    "https": _http,
    "tcp": _tcp,
}
