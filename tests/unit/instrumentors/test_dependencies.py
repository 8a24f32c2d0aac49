"""Probes and watched checks, one by one, against servers that answer, drip and redirect."""

import ssl
import time
from contextlib import suppress

import psutil
import pytest
from sqlalchemy import make_url

from otel_coach.instrumentors.dependencies import probes as probes_module
from otel_coach.instrumentors.dependencies.probes import (
    UnexpectedAnswerError,
    UnknownAddressError,
    probe_of,
)
from tests.support.dependencies import http_server, port, say
from tests.support.paths import PEM
from tests.support.serving import by_tls, tcp_server


def test_http_with_a_password_sends_it_as_it_should():
    with http_server() as (port_number, seen):
        probe_of(f"http://user:p%40ss@127.0.0.1:{port_number}/")(1.0)
    assert seen == ["Basic dXNlcjpwQHNz"]  # user:p@ss


def test_a_user_without_a_password_is_sent_as_basic_authentication_has_it():
    with http_server() as (port_number, seen):
        probe_of(f"http://token@127.0.0.1:{port_number}/")(1.0)
    assert seen == ["Basic dG9rZW46"]  # token:


def test_an_error_of_redis_is_named_even_if_it_is_long():
    """What Redis answers to PING when a snapshot has failed."""
    text = (
        b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist "
        b"to disk. Commands that may modify the data set are disabled, because this instance is "
        b"configured to report errors during writes if RDB snapshotting fails "
        b"(stop-writes-on-bgsave-error option). Please check the Redis logs for details about the "
        b"RDB error.\r\n"
    )
    with tcp_server(say(text)) as server, pytest.raises(UnexpectedAnswerError, match="MISCONF"):
        probe_of(f"redis://127.0.0.1:{port(server)}")(1.0)


def test_a_psycopg_that_finds_no_libpq_is_done_without(monkeypatch):
    def no_libpq(_name):
        raise ImportError("no pq wrapper available")

    monkeypatch.setattr(probes_module, "import_module", no_libpq)
    with tcp_server(say(b"N")) as server:
        probe_of(f"postgresql://127.0.0.1:{port(server)}/x")(1.0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_an_answer_and_the_password_stays(status):
    with http_server() as (elsewhere, asked_there):
        location = f"http://127.0.0.1:{elsewhere}/"
        answer = f"HTTP/1.1 {status} There\r\nlocation: {location}\r\n\r\n".encode()
        with tcp_server(say(answer)) as server:
            probe_of(f"http://user:hunter2@127.0.0.1:{port(server)}/")(5.0)
    assert asked_there == []


def flood(first):
    def answer(connection):
        connection.recv(4096)
        with suppress(OSError):
            connection.sendall(first)
            while True:
                connection.sendall(b"x" * 65536)

    return answer


@pytest.mark.parametrize(
    ("first", "is_up"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),  # a body without end
        (b"HTTP/1.1 200 OK\r\na: ", True),  # a header without end
        (b"HTTP/1.1 200 ", True),
        (b"HTTP/1.1 2", False),
        (b"", False),
    ],
)
def test_of_an_answer_without_end_no_more_is_read_than_its_status(first, is_up):
    with tcp_server(flood(first)) as server:
        probe = probe_of(f"http://127.0.0.1:{port(server)}/")
        before = psutil.Process().memory_info().rss
        if is_up:
            probe(5.0)
        else:
            with pytest.raises(UnexpectedAnswerError):
                probe(5.0)
        assert psutil.Process().memory_info().rss - before < 50 << 20


def test_a_status_that_drips_is_left_when_the_time_is_over():
    def drip(connection):
        with suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\n" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    with tcp_server(drip) as server:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            probe_of(f"http://127.0.0.1:{port(server)}/")(0.5)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("trusted", [True, False])
def test_https_is_asked_of_whoever_has_the_certificate(monkeypatch, trusted):
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(PEM))

    def answer(connection):
        assert b"Host: localhost:" in connection.recv(4096)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with tcp_server(by_tls(answer)) as server:
        probe = probe_of(f"https://localhost:{port(server)}/health")
        if trusted:
            probe(5.0)
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                probe(5.0)


def test_what_is_asked_for_is_what_the_address_says():
    asked = []

    def answer(connection):
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with tcp_server(answer) as server:
        for path in ("", "/a b/%20?q=1&r=ä\r\nX: y#part", "?q=1"):
            probe_of(f"http://127.0.0.1:{port(server)}{path}")(5.0)
        lines = [one.partition(b"\r\n")[0] for one in asked]
        assert lines == [
            b"GET / HTTP/1.1",
            b"GET /a%20b/%20?q=1&r=%C3%A4X:%20y HTTP/1.1",
            b"GET /?q=1 HTTP/1.1",
        ]
        host = f"Host: 127.0.0.1:{port(server)}\r\n".encode()
        assert all(host in one and one.endswith(b"\r\n\r\n") for one in asked)


@pytest.mark.parametrize(
    ("address", "cure"),
    [
        ("mysql://h/db", "unknown scheme 'mysql'"),
        ("h:5432", "unknown scheme"),
        ("", "unknown scheme"),
        ("tcp://h", "needs a port"),
        ("redis://", "needs a host"),
        ("tcp://h:port", "cannot be read"),
        ("http://[::1", "cannot be read"),
        (f"http://{'a' * 64}/", "check its host"),
        ("rediss+asyncio://h", "unknown scheme"),
        ("https+tls://h", "unknown scheme"),
    ],
)
def test_an_address_that_cannot_be_probed_says_why_without_repeating_it(address, cure):
    with pytest.raises(UnknownAddressError, match=cure):
        probe_of(address)


def test_a_host_may_be_as_long_as_a_label_of_a_name():
    assert callable(probe_of(f"http://{'a' * 63}:65535/"))
    assert callable(probe_of("http://[::1]/"))
    assert callable(probe_of("http://[::1]:80/"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("host=db1:6432", {"host": "db1", "port": "6432"}),
        ("host=a:1&host=b:2", {"host": "a,b", "port": "1,2"}),
        ("host=a&host=b:2", {"host": "a,b", "port": ",2"}),
        ("host=/run/postgresql", {"host": "/run/postgresql"}),
        ("host=db1&port=6432", {"host": "db1", "port": "6432"}),
        ("host=db1", {"host": "db1"}),
    ],
)
def test_hosts_of_sqlalchemy_are_libpqs(query, expected, monkeypatch):
    """As sqlalchemy.dialects.postgresql passes them to psycopg."""
    psycopg = pytest.importorskip("psycopg")
    asked = []

    def connect(conninfo, **_):
        asked.append(psycopg.conninfo.conninfo_to_dict(conninfo))
        raise ConnectionRefusedError

    monkeypatch.setattr(psycopg, "connect", connect)
    with pytest.raises(ConnectionRefusedError):
        probe_of(f"postgresql+psycopg://u:p@/db?{query}")(1.0)
    url = make_url(f"postgresql+psycopg://u:p@/db?{query}")
    (_, by_sqlalchemy) = url.get_dialect()().create_connect_args(url)
    for found in (asked[0], by_sqlalchemy):
        assert {key: found[key] for key in ("host", "port") if key in found} == expected


def test_redis_in_protected_mode_says_so():
    """What Redis 7 answers to each connection from another host: 1,066 bytes."""
    text = b"-DENIED Redis is running in protected mode because protected mode is enabled "
    text += b"x" * (1064 - len(text)) + b"\r\n"
    with tcp_server(say(text)) as server, pytest.raises(UnexpectedAnswerError, match="DENIED"):
        probe_of(f"redis://127.0.0.1:{port(server)}")(1.0)
