"""How to ask a dependency whether it is there, by the scheme of its address."""

from __future__ import annotations

import functools
import socket
import urllib.request
from base64 import b64encode
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

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
    scheme = address.partition("://")[0].partition("+")[0] if "://" in address else ""
    make = _PROBES.get(scheme)
    if make is None:
        message = f"has the unknown scheme {scheme!r}; use one of {', '.join(_PROBES)}"
        raise UnknownAddressError(message)
    return make(address)


def _split(address: str, default_port: int | None) -> tuple[SplitResult, str, int]:
    """The parts of an address that has one host."""
    try:
        url = urlsplit(address)
        host, port = url.hostname, url.port or default_port
    except ValueError:
        message = "is at an address that cannot be read; check its host and port"
        raise UnknownAddressError(message) from None
    if not host:
        message = f"needs a host: {url.scheme}://host:port"
        raise UnknownAddressError(message)
    if not port:
        message = f"needs a port: {url.scheme}://host:port"
        raise UnknownAddressError(message)
    return url, host, port


def _postgresql(address: str) -> Probe:
    if find_spec("psycopg") is not None:
        import_module("psycopg")  # now, not within the time of the first probe
        # libpq reads the rest itself: several hosts, a socket's folder, no host at all.
        return functools.partial(_select_one, *_for_libpq(address))
    _, host, port = _split(address, 5432)
    return functools.partial(_greet_postgresql, host, port)


def _for_libpq(address: str) -> tuple[str, bool]:
    """The address in libpq's spelling, and whether SQLAlchemy's own parameters may be in it."""
    scheme, _, rest = address.partition("://")
    return f"postgresql://{rest}", "+" in scheme


def _select_one(conninfo: str, of_sqlalchemy: bool, timeout: float, /) -> None:  # noqa: FBT001
    import psycopg  # noqa: PLC0415 - only where the host has it

    if of_sqlalchemy:
        known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
        address, _, query = conninfo.partition("?")
        kept = [(key, value) for key, value in parse_qsl(query) if key in known]
        conninfo = f"{address}?{urlencode(kept)}" if kept else address
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


def _redis(address: str) -> Probe:
    _, host, port = _split(address, 6379)
    return functools.partial(_ping_redis, host, port)


def _ping_redis(host: str, port: int, timeout: float, /) -> None:
    # A server that asks for a password (-NOAUTH) is up.
    if not _ask(host, port, b"PING\r\n", timeout).startswith((b"+PONG", b"-NOAUTH")):
        raise UnexpectedAnswerError


def _http(address: str) -> Probe:
    url, _, _ = _split(address, 80)
    headers = {"User-Agent": "otel-coach"}
    credentials, at, host = url.netloc.rpartition("@")
    if at:
        headers["Authorization"] = f"Basic {b64encode(unquote(credentials).encode()).decode()}"
    return functools.partial(_get, url._replace(netloc=host).geturl(), headers)


def _get(url: str, headers: dict[str, str], timeout: float, /) -> None:
    # Raises for 4xx and 5xx. No proxy: the probe asks the dependency itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s)
    with closing(opener.open(request, timeout=timeout)):
        pass


def _tcp(address: str) -> Probe:
    _, host, port = _split(address, None)
    return functools.partial(_connect, host, port)


def _connect(host: str, port: int, timeout: float, /) -> None:
    socket.create_connection((host, port), timeout).close()


def _ask(host: str, port: int, question: bytes, timeout: float) -> bytes:
    with socket.create_connection((host, port), timeout) as connection:
        connection.sendall(question)
        return connection.recv(64)


_PROBES: Final[Mapping[str, Callable[[str], Probe]]] = {
    "postgresql": _postgresql,
    "postgres": _postgresql,
    "redis": _redis,
    "http": _http,
    "https": _http,
    "tcp": _tcp,
}
