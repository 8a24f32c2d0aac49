"""The page's own port: what can be asked for there, and under which names."""

import gzip
import socket
from contextlib import suppress

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_coach.prometheus.http.request_head import BadRequestError, read_head
from tests.support.page_port import SCRAPE, ask, connect, served, whole

# What is asked for


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics/ HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics?name[]=x HTTP/1.0\r\n\r\n", 200),
        (b"GET /%6detrics HTTP/1.0\r\n\r\n", 200),
        (b"GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /figures HTTP/1.0\r\n\r\n", 200),
        (b"GET /figures/ HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 404),
        (b"GET /favicon.ico HTTP/1.0\r\n\r\n", 404),
        (b"GET /metrics/more HTTP/1.0\r\n\r\n", 404),
        (b"GET //metrics HTTP/1.0\r\n\r\n", 404),
        (b"GET /../metrics HTTP/1.0\r\n\r\n", 404),
        (b"POST / HTTP/1.0\r\n\r\n", 404),
        *((b"%s /metrics HTTP/1.0\r\n\r\n" % one, 405) for one in (b"POST", b"OPTIONS", b"get")),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),  # without Host
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.0\r\nno header\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.0\r\na: b\r\n folded\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.0\r\na : b\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.0\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.0\r\n" + b"a: b\r\n" * 4000 + b"\r\n", 431),
        (b"GET /metrics HTTP/1.0\r\na: " + b"x" * 2_000_000, 431),
    ],
    ids=lambda one: one[:40] if isinstance(one, bytes) else None,
)
def test_only_the_page_is_there_and_only_to_be_read(request_, status):
    with served(path="/figures") as port:
        found, headers, body = ask(port, request_)
    assert found == status
    assert headers["cache-control"] == "no-store"
    assert headers["connection"] == "close"
    assert headers["server"] is None
    assert headers["allow"] == ("GET, HEAD" if status == 405 else None)
    assert int(headers["content-length"]) == len(body)
    assert (body == b"x 1\n") is (status == 200)


@pytest.mark.parametrize(
    ("target", "query"),
    [
        (b"/metrics", ""),
        (b"/metrics?", ""),
        (b"/metrics?plain", "plain"),
        (b"/metrics?a=%20b?c", "a=%20b?c"),
        (b"http://localhost/metrics?plain", "plain"),
    ],
)
def test_the_query_is_kept_beside_the_path(target, query):
    head = read_head(b"GET %s HTTP/1.1\r\nHost: localhost" % target)
    assert (head.path, head.query) == ("/metrics", query)


LOCAL = ["localhost", "LOCALHOST:9464", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:9464"]
FOREIGN = [
    *("evil.example", "evil.example:9464", "localhost.evil.example", "evil.example:80@localhost"),
    *("10.0.0.1", "127.0.0.1.nip.io:9464", "::1", "localhost:x", "localhost, localhost", ""),
]


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_is_served_by_its_own_names(host):
    with served() as port:
        assert ask(port, f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0] == 200


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize(
    "form",
    ["GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "GET http://{}/metrics HTTP/1.0\r\n\r\n"],
)
def test_a_browser_that_takes_this_machine_for_a_stranger_gets_nothing(host, form):
    with served() as port:
        status, _, body = ask(port, form.format(host).encode())
    assert status in {400, 421}
    assert b"x 1" not in body


def test_where_all_addresses_are_listened_at_any_name_is_served():
    with served(host="0.0.0.0") as port:
        assert ask(port, b"GET /metrics HTTP/1.1\r\nHost: pod-7.svc:9464\r\n\r\n")[0] == 200


def test_the_name_that_the_operator_gave_is_served():
    with served(host="127.0.0.5") as port, socket.create_connection(("127.0.0.5", port)) as one:
        one.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.5:%d\r\n\r\n" % port)
        assert whole(one).startswith(b"HTTP/1.1 200 ")


@pytest.mark.skipif(not socket.has_ipv6, reason="the kernel has no IPv6")
def test_every_address_of_both_kinds_is_listened_at():
    with served(host="::") as port:
        assert ask(port)[0] == 200


def test_what_is_sent_with_a_request_and_after_it_is_not_the_next_one():
    body = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served() as port, connect(port) as one:
        one.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 43\r\n\r\n" + body
        )
        assert whole(one).count(b"HTTP/1.1 ") == 1


def test_a_scrape_in_pieces_is_understood():
    with served() as port, connect(port) as one:
        for byte in SCRAPE:
            one.sendall(bytes([byte]))
        assert whole(one).endswith(b"x 1\n")


@settings(deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=80) | st.binary(max_size=40).map(b"GET /metrics HTTP/1.1\r\n".__add__))
def test_any_bytes_are_a_request_or_none(data):
    with suppress(BadRequestError):
        head = read_head(data)
        assert head.method
        assert head.hosts or data.split(b"\r\n")[0].endswith(b"HTTP/1.0")
        assert "\n" not in "".join(head.headers)


# On both pages


def test_a_scrape_by_a_real_client_is_compressed():
    with served() as port:
        answer = httpx.get(f"http://localhost:{port}/metrics", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "x 1\n"
    assert gzip.decompress(gzip.compress(b"x 1\n")) == answer.content
