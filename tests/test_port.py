"""The page's own port, attacked: idle crowds, drips, floods, foreign names, no requests."""

import gzip
import os
import resource
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from email.parser import BytesParser
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import eventually, serving
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.programs import ALONE, Program, free_port
from demo.stack import bin_path
from otel_coach.exposition import page_server
from otel_coach.exposition.port import Address, serve
from otel_coach.exposition.renders import Renders
from otel_coach.exposition.request_head import BadRequestError, read_head
from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from otel_coach.workers.outage import Outage

TESTS = Path(__file__).parent
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n\r\n"


class Rendered:
    """A page that is always the same."""

    def __init__(self, body=b"x 1\n", before=lambda: None):
        self.outage = Outage()
        self._body = body
        self._before = before

    def render(self, accept, own=None):
        self._before()
        return self._body, "text/plain"


def never(fault, place):
    raise AssertionError(place) from fault


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


def ours():
    return [one for one in threading.enumerate() if one.name.startswith("otel-coach-p")]


@contextmanager
def many_files():
    """This process may hold the attacker's end of thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Crowds


def test_a_thousand_idle_connections_cost_a_service_with_256_descriptors_nothing(tmp_path):
    app, page = free_port(), free_port()
    limited = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh"]
    command = [bin_path("opentelemetry-instrument"), "uvicorn", "small_app:app", "--port", str(app)]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
        **ALONE,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(TESTS),
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(page),
    }
    program = Program(
        [*limited, *command],
        cwd=tmp_path,
        ready=f"http://127.0.0.1:{app}/health",
        environment=environment,
        log=tmp_path / "log.txt",
    )
    process = psutil.Process(program.process.pid)
    with ExitStack() as held, many_files():
        held.callback(program.stop)
        before = process.num_threads()
        for _ in range(1000):
            held.enter_context(connect(page))
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{app}/health", timeout=5).json() == "ok"
            scraped = Page(httpx.get(f"http://127.0.0.1:{page}/metrics", timeout=5).text)
            assert scraped.sum("otel_coach_errors_total") == 0
            assert process.num_threads() <= before + 5
            assert process.num_fds() < 128
    assert "Too many open files" not in program.log.read_text()


def test_who_asks_is_answered_while_others_hold_all_places_and_come_back_at_once():
    over = threading.Event()

    def hold(port):
        while not over.is_set():
            with suppress(OSError), connect(port, "127.0.0.2") as one:
                one.sendall(b"GET /metrics HTTP/1.1\r\n")
                is_hung_up(one)

    with served() as port, many_files():
        strangers = [threading.Thread(target=hold, args=(port,)) for _ in range(100)]
        for one in strangers:
            one.start()
        try:
            for _ in range(20):
                assert ask(port)[0] == 200
                assert len(ours()) <= 2
        finally:
            over.set()
    for one in strangers:
        one.join(10)


def test_a_scraper_that_waits_for_its_page_keeps_its_place():
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait()

    with served(Rendered(before=slow)) as port, connect(port) as scraper, ExitStack() as held:
        scraper.sendall(SCRAPE)
        assert begun.wait(10)
        crowd = [held.enter_context(connect(port)) for _ in range(200)]
        assert is_hung_up(crowd[0])  # so the others were let in, or wait
        go_on.set()
        assert whole(scraper).startswith(b"HTTP/1.1 200")


def test_as_many_pages_as_are_asked_for_at_once_take_one_thread_also_if_nobody_waits_for_them():
    go_on, made = threading.Event(), []

    def slow():
        go_on.wait()
        made.append(1)

    with served(Rendered(before=slow)) as port:
        for _ in range(200):
            with connect(port) as one:
                one.sendall(SCRAPE)
        eventually(lambda: len(ours()) == 2)
        time.sleep(0.2)
        assert len(ours()) == 2
        go_on.set()
        assert ask(port)[0] == 200
        assert len(made) <= 3
    eventually(lambda: not ours())


# Those who take their time


@pytest.mark.parametrize("drip", [b"x", b""], ids=["byte by byte", "nothing"])
def test_a_request_that_does_not_end_is_hung_up_on_in_time(monkeypatch, drip):
    monkeypatch.setattr(page_server, "_LONGEST_ASKING", 0.5)
    with served() as port, connect(port) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nx: ")
        slow.settimeout(0.05)
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 10:
                with suppress(TimeoutError):
                    slow.sendall(drip)
                    if slow.recv(1) == b"":
                        break
        assert 0.4 < time.monotonic() - started < 10


def test_an_answer_that_nobody_takes_is_hung_up_on_in_time(monkeypatch):
    monkeypatch.setattr(page_server, "_LONGEST_TAKING", 0.5)
    with served(Rendered(os.urandom(64 << 20))) as port, connect(port) as slow:
        slow.sendall(SCRAPE)
        received = slow.recv(100)
        eventually(lambda: len(ours()) == 1)
        time.sleep(1)
        with suppress(ConnectionResetError):
            received += whole(slow)
        assert len(received) < 64 << 20
        assert ask(port, b"HEAD /metrics HTTP/1.0\r\n\r\n")[0] == 200


def test_who_is_answered_and_stays_is_hung_up_on_in_time(monkeypatch):
    monkeypatch.setattr(page_server, "_LONGEST_LEAVING", 0.3)
    with served() as port, connect(port) as slow:
        slow.sendall(SCRAPE)
        assert whole(slow).endswith(b"x 1\n")
        with suppress(ConnectionError):
            for _ in range(200):
                slow.sendall(b"x")
                time.sleep(0.05)
            pytest.fail("it is listened to for ever")


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


def test_a_page_that_fails_is_a_fault_of_ours_and_the_next_scrape_is_answered():
    faults, answers = [], iter([KeyError("a secret"), SystemExit(3), None])

    def fail():
        if (raised := next(answers)) is not None:
            raise raised

    with served(Rendered(before=fail), fault=lambda *of: faults.append(of)) as port:
        for _ in range(2):
            status, _, body = ask(port)
            assert status == 500
            assert b"secret" not in body
        assert ask(port)[0] == 200
    assert [type(fault) for fault, _ in faults] == [KeyError, SystemExit]


def test_stopping_leaves_no_thread_and_no_socket_and_hangs_up():
    with connect_after_stop() as (idle, port):
        assert is_hung_up(idle)
        with pytest.raises(OSError, match="refused"):
            connect(port)
    assert not ours()


@contextmanager
def connect_after_stop():
    with served() as port:
        idle = connect(port)
        assert ask(port)[0] == 200
    with idle:
        yield idle, port


@settings(deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=80) | st.binary(max_size=40).map(b"GET /metrics HTTP/1.1\r\n".__add__))
def test_any_bytes_are_a_request_or_none(data):
    with suppress(BadRequestError):
        head = read_head(data)
        assert head.method
        assert head.hosts or data.split(b"\r\n")[0].endswith(b"HTTP/1.0")
        assert "\n" not in "".join(head.headers)


# On both pages


@pytest.mark.parametrize("has_port", [False, True], ids=["inside", "own port"])
@pytest.mark.parametrize("token", [None, "sesame", ""], ids=["open", "closed", "empty token"])
def test_nothing_between_keeps_a_page(has_port, token):
    port = free_port() if has_port else None
    settings = Settings(metrics_port=port, metrics_host="127.0.0.1", metrics_token=token)
    with measuring(settings), serving(FastAPI(), server_header=False) as client:
        client.get("/")
        url = f"http://127.0.0.1:{port}/metrics" if port else f"{client.base_url}/metrics"
        bearing = {"authorization": "Bearer sesame", "accept-encoding": "gzip"}
        for headers in ({}, bearing):
            answer = httpx.get(url, headers=headers)
            let_in = token is None or (token == "sesame" and headers is bearing)
            assert answer.status_code == (200 if let_in else 401)
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers


@pytest.mark.parametrize("blank", ["", " ", "\t\n", " \r\n "])
@pytest.mark.parametrize("has_port", [False, True], ids=["inside", "own port"])
def test_an_empty_token_closes_the_page_and_says_what_to_do(blank, has_port, caplog):
    environment = {"OTEL_COACH_METRICS_TOKEN": blank}
    if has_port:
        environment["OTEL_EXPORTER_PROMETHEUS_HOST"] = "127.0.0.1"
        environment["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(port := free_port())
    with measuring(Settings.from_env(environment)), serving(FastAPI()) as client:
        client.get("/")
        port = port if has_port else client.base_url.port
        request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        for authorization in ("", "Bearer", "Bearer ", "Bearer  \t", "Bearer None", "Bearer x"):
            header = f"Authorization: {authorization}\r\n" if authorization else ""
            status, _, body = ask(port, f"{request}{header}\r\n".encode())
            assert status == 401
            assert body == b""
    (record,) = (one for one in caplog.records if one.name == "otel_coach")
    assert "OTEL_COACH_METRICS_TOKEN" in record.getMessage()
    assert "unset" in record.getMessage()


def test_no_token_is_not_an_empty_one():
    assert Settings.from_env({}).metrics_token is None
    assert Settings.from_env({}).problems == ()


def test_a_scrape_by_a_real_client_is_compressed():
    with served() as port:
        answer = httpx.get(f"http://localhost:{port}/metrics", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "x 1\n"
    assert gzip.decompress(gzip.compress(b"x 1\n")) == answer.content
