"""What an OTLP back end answers, headers that cannot be sent, and servers that mean ill."""

import http.client

import pytest

from otel_coach.cli.doctor import back_ends
from otel_coach.cli.doctor.variables import without_secrets
from tests.support.back_ends import PROTOCOL, Export, back_end, grpc_receiver, https, only
from tests.support.dependencies import port, say
from tests.support.doctor import hostile
from tests.support.otlp import Receiver
from tests.support.programs import free_port
from tests.support.serving import tcp_server

# What it answers


@pytest.mark.parametrize("status", [401, 403])
def test_a_back_end_that_wants_a_key(status):
    with Receiver(lambda *_: status) as receiver:
        told = only(back_end(receiver.endpoint), "otlp-credentials")
    assert f"HTTP status {status}" in told
    assert "export OTEL_EXPORTER_OTLP_HEADERS=" in told


def test_a_back_end_that_wants_a_key_by_grpc():
    service = Export()
    service.refuses = True
    with grpc_receiver(service) as port:
        told = only(back_end(f"http://127.0.0.1:{port}", **{PROTOCOL: "grpc"}), "otlp-credentials")
    assert "UNAUTHENTICATED" in told


@pytest.mark.parametrize("status", [404, 405, 415, 500, 503])
def test_a_back_end_that_refuses(status):
    with Receiver(lambda *_: status) as receiver:
        told = only(back_end(receiver.endpoint), "otlp-refused")
    assert f"HTTP status {status}" in told
    assert f"{receiver.endpoint}/v1/traces" in told


def test_a_web_server_that_answers_everything():
    with https(200, b"<html>hello</html>", "text/html", tls=False) as port:
        told = only(back_end(f"http://127.0.0.1:{port}"), "otlp-refused")
    assert "text/html" in told


def test_a_grpc_server_that_is_no_receiver():
    with grpc_receiver() as port:
        told = only(back_end(f"http://127.0.0.1:{port}", **{PROTOCOL: "grpc"}), "otlp-refused")
    assert "UNIMPLEMENTED" in told


# Headers


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("authorization: Bearer hunter2", 1),
        ("x-tenant=acme,Bearer hunter2", 2),
        ('{"authorization":"hunter2"}', 1),
        ("a b=hunter2", 1),
    ],
)
def test_a_header_that_is_none_is_told_by_its_position(text, position):
    with Receiver() as receiver:
        told = only(back_end(receiver.endpoint, OTEL_EXPORTER_OTLP_HEADERS=text), "otlp-headers")
    assert f"OTEL_EXPORTER_OTLP_HEADERS: entry {position} is not" in told
    assert "authorization=Bearer%20TOKEN" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a=b",
            "a=b,c=d",
            "authorization=Bearer hunter2",
            "authorization=Basic%20aHVudGVyMg==",
            "a=",
        ),
        *("authorization: Bearer x", "a b=c", '{"a":"b"}', "a=b;c=d", "a", "=b", "a=b,,c=d", "a=ü"),
    ],
)
def test_a_header_is_one_where_the_exporter_takes_it(text):
    from opentelemetry.util.re import parse_env_headers

    from otel_coach.cli.doctor.otlp_targets import _headers

    headers, bad = _headers(text)
    assert dict(headers) == parse_env_headers(text, liberal=True)
    assert bool(bad) == (len(headers) < len([entry for entry in text.split(",") if entry]))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("value", ["hunter2%0Ax: y", "hunter2%C3%BC", "hunter2%00"])
def test_a_header_that_cannot_be_sent_is_not_shown(protocol, value):
    text = f"authorization={value}"
    with Receiver() as receiver:
        environ = {PROTOCOL: protocol, "OTEL_EXPORTER_OTLP_HEADERS": text}
        found = back_end(receiver.endpoint, **environ)
    assert "hunter2" not in str(found)


# TLS


def tls_only(connection):
    """As Go's servers answer: an alert to a handshake that they refuse, and 400 to plain HTTP."""
    if connection.recv(65536).startswith(b"\x16"):
        connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")  # handshake_failure
        return
    text = b"Client sent an HTTP request to an HTTPS server.\n"
    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" + text)


def plain_only(connection):
    if not connection.recv(65536).startswith(b"\x16"):
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    connection.close()


def test_a_handshake_that_fails_is_no_reason_to_send_without_tls():
    with tcp_server(tls_only) as server:
        told = only(back_end(f"https://127.0.0.1:{port(server)}"), "otlp-unreachable")
    assert "the TLS handshake fails" in told


def test_without_a_port_the_port_of_https_is_asked(monkeypatch):
    """That port 80 answers says nothing about port 443."""
    with tcp_server(tls_only) as server, tcp_server(plain_only) as web:
        monkeypatch.setattr(http.client, "HTTPS_PORT", port(server))
        monkeypatch.setattr(http.client.HTTPSConnection, "default_port", port(server))
        monkeypatch.setattr(http.client.HTTPConnection, "default_port", port(web))
        only(back_end("https://127.0.0.1"), "otlp-unreachable")
    with tcp_server(plain_only) as web:
        only(back_end(f"https://127.0.0.1:{port(web)}"), "otlp-https-to-http")


# Servers that mean ill


def test_an_answer_that_never_ends_is_left(monkeypatch):
    from itertools import repeat

    monkeypatch.setattr(back_ends, "_MAX_SECONDS", 1.0)
    with hostile([b"HTTP/1.1 200 OK\r\n", *repeat(b"a: b\r\n", 1000)], pause=0.05) as (url, _):
        told = only(back_end(url.removesuffix("/metrics")), "otlp-unreachable")
    assert "within 1 s" in told


def test_a_password_in_an_endpoint_is_not_shown():
    found = back_end(f"http://u:hunter2@127.0.0.1:{free_port()}/?key=hunter2")
    assert "hunter2" not in str(found)
    assert found


def test_a_proxy_of_the_environment_is_used_as_the_exporter_does(monkeypatch):
    with Receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        monkeypatch.delenv("no_proxy", raising=False)
        assert back_end("http://collector.invalid:4318") == {}
        assert proxy.requests == [("http://collector.invalid:4318/v1/traces", b"")]


@pytest.mark.parametrize(
    "address",
    [
        *("user:hunter2@host:4317", "http://user:hun/ter2@host", "http://user:hun#ter2@host"),
        *("http://user:hun?ter2@host", "http://user:hunter2@host/a?key=hunter2"),
    ],
)
def test_no_part_of_a_password_is_shown(address):
    shown = without_secrets(address)
    assert "hun" not in shown
    assert "ter2" not in shown


@pytest.mark.parametrize("status", [200, 202, 204])
def test_every_status_of_success_is_one(status):
    with tcp_server(say(f"HTTP/1.1 {status} OK\r\nContent-Length: 0\r\n\r\n".encode())) as server:
        assert back_end(f"http://127.0.0.1:{port(server)}") == {}
