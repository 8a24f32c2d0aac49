"""Probes of dependencies, chosen by the URL scheme of their address."""

from __future__ import annotations

import functools
import re
import socket
import ssl
from contextlib import ExitStack
from enum import Enum, auto
from http import HTTPStatus
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from otel_coach.core.urls import basic_credentials, host_in_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(\+[A-Za-z0-9_.-]+)?://")
_OTHER_SCHEMES: Final = frozenset(
    {
        *("amqp", "amqps", "bolt", "cassandra", "clickhouse", "cockroachdb", "couchdb", "db2"),
        *("elasticsearch", "file", "ftp", "grpc", "kafka", "ldap", "ldaps", "mariadb", "memcached"),
        *("mongodb", "mssql", "mysql", "nats", "neo4j", "oracle", "pulsar", "s3", "smtp"),
        *("sqlite", "ssh", "udp", "unix", "ws", "wss"),
    }
)
"""Schemes that are not supported, and that an error message may name: they are no secret."""
_SAFE_IN_TARGET: Final = "/%:@!$&'()*+,;=?~-._"
PORTS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("postgresql", "postgres"), 5432),
    **dict.fromkeys(("redis", "rediss"), 6379),
    "http": 80,
    "https": 443,
}
"""By scheme, the port of addresses that name none; tcp:// has to name one."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_POSTGRESQL_ANSWER: Final = re.compile(rb"[SN]")
_REDIS_ANSWER: Final = re.compile(rb"(?:\+[A-Z]+|-([A-Z]+[^\r\n]{0,99})[^\r\n]*)\r\n")
_HOST_AND_PORT: Final = re.compile(r"([A-Za-z0-9.-]*)(?::(\d*))?")
_NOT_PRINTABLE: Final = re.compile(r"[^ -~]")
_CERTIFICATE_REQUIREMENTS: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_FALSE: Final = frozenset({"0", "f", "false", "n", "no"})
"""As redis-py reads them in a URL."""
_MAX_FIRST_LINE: Final = 2048
"""Bytes; no more of a response is read. An error of Redis may have 1,100 (DENIED)."""
_MIN_TIMEOUT: Final = 0.001
"""Seconds; a timeout of 0 would make the socket non-blocking, a negative one is an error."""


class Probe(Protocol):
    """Returns normally if the dependency answers; raises an exception if it does not.

    `timeout` (seconds) limits each network operation; the caller limits the whole probe.
    """

    def __call__(self, timeout: float, /) -> None:
        """Runs one probe."""
        ...


class UnknownAddressError(ValueError):
    """The address cannot be probed; the message says how to correct it, and does not repeat it."""


class Unexpected(Enum):
    """What is wrong with an answer."""

    PROTOCOL = auto()
    PASSWORD = auto()
    ERROR = auto()
    STATUS = auto()


class UnexpectedAnswerError(Exception):
    """Something answers at the address, but not as the dependency would.

    The message says what is wrong. It does not repeat the address. It may repeat an error that
    Redis sent, but of the answer to a password only the first word.
    """

    def __init__(self, message: str, wrong: Unexpected) -> None:
        super().__init__(message)
        self.wrong = wrong


class _KnownProbe:
    """A probe whose repr does not show its address, which may contain a password."""

    def __init__(self, scheme: str, ask: Probe) -> None:
        self._scheme = scheme
        self._ask = ask

    def __call__(self, timeout: float, /) -> None:
        self._ask(timeout)

    def __repr__(self) -> str:
        return f"<probe of {self._scheme}>"


def probe_of(address: str) -> Probe:
    """Returns the probe for `address`.

    Supports postgresql:// (also as SQLAlchemy writes it, postgresql+psycopg://), redis(s)://,
    http(s):// and tcp://host:port.

    Raises:
        UnknownAddressError: the scheme is not supported, or the host or port is missing or invalid.
    """
    found = _SCHEME.match(address)
    scheme = found[1].lower() if found is not None else ""
    make = _PROBES.get(scheme)
    if found is not None and found[2] and make is not _postgresql:
        make = None  # only SQLAlchemy's addresses name a driver
    if make is None:
        # Any other word may be part of a password, as in libpq's `host=db password=a://b`.
        which = (
            f"the unknown scheme {scheme!r}" if scheme in _OTHER_SCHEMES else "an unknown scheme"
        )
        message = f"has {which}; use one of {', '.join(f'{known}://' for known in _PROBES)}"
        raise UnknownAddressError(message)
    return _KnownProbe(scheme, make(address))


def _split(address: str) -> tuple[SplitResult, str, int]:
    """Returns the URL, the host and the port of an address that has one host."""
    try:
        url = urlsplit(address)
        host, port = url.hostname, url.port or PORTS.get(url.scheme.partition("+")[0])
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
    if _has_psycopg():
        # libpq parses the rest itself: several hosts, the directory of a Unix socket, or no host.
        return functools.partial(_select_one, *_for_libpq(address))
    _, host, port = _split(address)
    return functools.partial(_greet_postgresql, host, port)


def _has_psycopg() -> bool:
    """Returns whether psycopg can be imported.

    It is imported now: later, the import would count towards the timeout of the first probe.
    """
    try:
        import_module("psycopg")
    except ImportError:  # it is not installed, or finds no libpq
        return False
    return True


def _for_libpq(address: str) -> tuple[str, bool]:
    """Returns the address for libpq, and whether it may have parameters of SQLAlchemy's."""
    scheme, _, rest = address.partition("://")
    return f"postgresql://{rest}", "+" in scheme


def _hosts_for_libpq(query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields the parameters with hosts in libpq's form, which has a list of hosts and one of ports.

    SQLAlchemy takes several `host` parameters, each as `host:port`
    (docs.sqlalchemy.org, "Specifying multiple fallback hosts").
    """
    yield from ((key, value) for key, value in query if key != "host")
    hosts = [value for key, value in query if key == "host"]
    parts = [_HOST_AND_PORT.fullmatch(host) for host in hosts]
    if len(hosts) > 1 or any(part and part[2] for part in parts):
        yield (
            "host",
            ",".join(part[1] if part else host for part, host in zip(parts, hosts, strict=True)),
        )
        yield "port", ",".join((part and part[2]) or "" for part in parts)
    elif hosts:
        yield "host", hosts[0]


def _select_one(conninfo: str, is_sqlalchemy: bool, timeout: float, /) -> None:  # noqa: FBT001
    import psycopg  # noqa: PLC0415 - only where the host has it

    if is_sqlalchemy:
        known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
        address, _, query = conninfo.partition("?")
        kept = [*_hosts_for_libpq(parse_qsl(query))]
        kept = [(key, value) for key, value in kept if key in known]
        conninfo = f"{address}?{urlencode(kept, quote_via=quote)}" if kept else address
    milliseconds = int(timeout * 1000)
    with psycopg.connect(
        conninfo,
        connect_timeout=max(2, int(timeout)),  # libpq takes whole seconds, at least two
        tcp_user_timeout=milliseconds,
        application_name="otel-coach",
        autocommit=True,
    ) as connection:
        # Both in one transaction: behind a pooler, the application gets this session afterwards.
        connection.execute(f"SET LOCAL statement_timeout = {milliseconds}; SELECT 1".encode())


def _greet_postgresql(host: str, port: int, timeout: float, /) -> None:
    """Probes without a driver: PostgreSQL answers an SSLRequest with one letter."""
    with socket.create_connection((host, port), timeout) as connection:
        connection.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
        _first_line(connection, monotonic() + timeout, _POSTGRESQL_ANSWER, "as PostgreSQL does")


def _redis(address: str) -> Probe:
    url, host, port = _split(address)
    login = [unquote(part) for part in (url.username, url.password) if part] if url.password else []
    context = functools.partial(_redis_tls, dict(parse_qsl(url.query)))
    return functools.partial(
        _ping_redis, host, port, tuple(login), context if url.scheme.lower() == "rediss" else None
    )


def _redis_tls(parameters: Mapping[str, str]) -> ssl.SSLContext:
    """Returns the context for the parameters of a `rediss:` URL that redis-py knows."""
    context = ssl.create_default_context(
        cafile=parameters.get("ssl_ca_certs"), capath=parameters.get("ssl_ca_path")
    )
    required = parameters.get("ssl_cert_reqs", "required").lower()
    if required == "none" or parameters.get("ssl_check_hostname", "").lower() in _FALSE:
        context.check_hostname = False
    context.verify_mode = _CERTIFICATE_REQUIREMENTS.get(required, ssl.CERT_REQUIRED)
    if certificate := parameters.get("ssl_certfile"):
        context.load_cert_chain(certificate, parameters.get("ssl_keyfile"))
    return context


def _ping_redis(
    host: str,
    port: int,
    login: tuple[str, ...],
    tls: Callable[[], ssl.SSLContext] | None,
    timeout: float,
    /,
) -> None:
    deadline = monotonic() + timeout
    with ExitStack() as closing:
        connection = _connected(host, port, timeout, tls=tls, closing=closing)
        if login and (error := _redis_error(connection, deadline, "AUTH", *login)):
            message = f"it refuses the password ({error.partition(' ')[0]})"
            raise UnexpectedAnswerError(message, Unexpected.PASSWORD)
        error = _redis_error(connection, deadline, "PING")
        # A server that requires a password, where the address has none, is up.
        if error and (login or not error.startswith("NOAUTH")):
            message = f"it says: {error}"
            raise UnexpectedAnswerError(message, Unexpected.ERROR)


def _redis_error(connection: socket.socket, deadline: float, *command: str) -> str:
    """Sends a command by the Redis protocol; returns the error of the answer, "" if it has none."""
    words = [word.encode() for word in command]
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    connection.sendall(b"*%d\r\n%s" % (len(words), parts))
    found = _first_line(connection, deadline, _REDIS_ANSWER, "as Redis does")
    return _NOT_PRINTABLE.sub(" ", found[1].decode("ascii", "replace")) if found[1] else ""


def _first_line(
    connection: socket.socket, deadline: float, form: re.Pattern[bytes], like: str
) -> re.Match[bytes]:
    """Returns the match of `form`, which is the first line of the answer.

    Raises:
        UnexpectedAnswerError: the answer has another form; the message says that it is not `like`.
        TimeoutError: it has not come in time.
    """
    data = b""
    while (found := form.match(data)) is None:
        connection.settimeout(max(deadline - monotonic(), _MIN_TIMEOUT))
        piece = connection.recv(_MAX_FIRST_LINE - len(data))
        data += piece
        if monotonic() > deadline:
            message = "timed out"  # as a socket says it
            raise TimeoutError(message)
        if not piece:
            message = f"something answers there, but not {like}"
            raise UnexpectedAnswerError(message, Unexpected.PROTOCOL)
    return found


def _connected(
    host: str,
    port: int,
    timeout: float,
    *,
    tls: Callable[[], ssl.SSLContext] | None,
    closing: ExitStack,
) -> socket.socket:
    """Returns a connection, by TLS if there is a context, which `closing` closes."""
    connection = closing.enter_context(socket.create_connection((host, port), timeout))
    if tls is None:
        return connection
    return closing.enter_context(tls().wrap_socket(connection, server_hostname=host))


def _http(address: str) -> Probe:
    url, host, port = _split(address)
    try:
        # A host name that is not ASCII is sent in IDNA, as the resolver encodes it.
        named = host_in_url(host.encode("idna").decode())
    except UnicodeError:
        message = "is at an address that cannot be read; check its host"
        raise UnknownAddressError(message) from None
    if url.port is not None:
        named = f"{named}:{url.port}"
    headers = {"Host": named, "User-Agent": "otel-coach", "Connection": "close"}
    if login := basic_credentials(url):
        headers["Authorization"] = login
    target = quote(url.path or "/", _SAFE_IN_TARGET)
    if url.query:
        target = f"{target}?{quote(url.query, _SAFE_IN_TARGET)}"
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    request = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
    return functools.partial(_get, host, port, request, url.scheme == "https")


def _get(host: str, port: int, request: bytes, uses_tls: bool, timeout: float, /) -> None:  # noqa: FBT001
    """Requests only the status. No proxy is used: the probe asks the dependency itself.

    A redirect counts as an answer. It is not followed: that would send the credentials elsewhere.
    """
    deadline = monotonic() + timeout
    with ExitStack() as closing:
        tls = ssl.create_default_context if uses_tls else None
        connection = _connected(host, port, timeout, tls=tls, closing=closing)
        connection.sendall(request)
        # Of the response, only the first line is read.
        status = int(_first_line(connection, deadline, _STATUS, "by HTTP")[1])
        if status >= HTTPStatus.BAD_REQUEST:
            message = f"it answers with HTTP status {status}"
            raise UnexpectedAnswerError(message, Unexpected.STATUS)


def _tcp(address: str) -> Probe:
    _, host, port = _split(address)
    return functools.partial(_connect, host, port)


def _connect(host: str, port: int, timeout: float, /) -> None:
    socket.create_connection((host, port), timeout).close()


_PROBES: Final[Mapping[str, Callable[[str], Probe]]] = {
    "postgresql": _postgresql,
    "postgres": _postgresql,
    "redis": _redis,
    "rediss": _redis,
    "http": _http,
    "https": _http,
    "tcp": _tcp,
}
