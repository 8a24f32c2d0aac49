"""`otel-coach doctor --url` against servers that mean ill, over real sockets."""

import http.client
import time
from itertools import repeat

import psutil
import pytest

from otel_coach.cli.doctor import dependencies, fetch
from otel_coach.cli.terminal import printable
from tests.support.doctor import ERRORS, OK, examined, hostile, page, reported, said
from tests.support.programs import free_port

# A person's command


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/metrics",
        "data:text/plain,x",
        "/etc/passwd",
        "http://",
    ],
)
def test_only_http_is_read(url):
    (finding,) = reported(url, None)
    assert "--url takes http://" in finding
    assert "root:" not in finding


# Servers that mean ill


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [b"\x00" * 100_000],
        [b"HTTP/9.9 hello\r\n\r\n"],
        [b"HTTP/1.1 200 " + b"x" * 100_000],
        [OK, b"a: " + b"x" * 100_000],
        [OK, *[b"a: b\r\n"] * 200, b"\r\n"],
        [OK, b"transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"x"],
        [OK, b"transfer-encoding: chunked\r\n\r\nnone\r\n", b"x"],
        [OK, b"content-length: 1000000\r\n\r\nshort"],
        page(""),
        page("<html>\x1b[31m</html>"),
        page(f'{ERRORS}{{error_type="a" 1\n'),
        page(f"{ERRORS}{{ many\n"),
        page(f"{ERRORS} 0x\n"),
        [OK, b"content-encoding: gzip\r\n\r\n", b"\x1f\x8b\x08" + b"\x00" * 20],
    ],
    ids=range(16),
)
def test_an_answer_that_is_no_page_is_one_line_with_a_cure(pieces):
    with hostile(pieces) as (url, _):
        (finding,) = reported(url, None)
    assert url in finding
    assert "?" in finding
    assert len(finding) < 300


@pytest.mark.parametrize(
    "pieces",
    [repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), [b"H", *repeat(b"T", 1000)]],
    ids=["always to be continued", "a status that never ends"],
)
def test_what_never_ends_is_left(monkeypatch, pieces):
    monkeypatch.setattr(fetch, "MAX_SECONDS", 1.0)
    with hostile(pieces, pause=0.05) as (url, _):
        started = time.monotonic()
        (finding,) = reported(url, None)
    assert "within 1 s" in finding
    assert time.monotonic() - started < 10


def test_a_page_without_end_takes_no_memory():
    def without_end():
        yield OK + b"\r\n"
        yield from repeat(b"x" * 65536)

    before = psutil.Process().memory_info().rss
    with hostile(without_end()) as (url, _):
        (finding,) = reported(url, None)
    assert "more than 96 MB" in finding
    assert psutil.Process().memory_info().rss - before < 300 << 20


def test_many_and_long_findings_are_cut(monkeypatch):
    long = "".join(f'{ERRORS}{{error_type="{n}{"x" * 5000}"}} 1\n' for n in range(500))
    with hostile(page(long)) as (url, _):
        found = reported(url, None)
    assert len(found) == 101
    assert "400 more" in found[-1]
    assert max(map(len, found)) < 500


def test_figures_that_are_none_are_said(monkeypatch):
    with hostile(page(f'{ERRORS}{{error_type="a"}} NaN\n{ERRORS}{{error_type="b"}} +Inf\n')) as (
        url,
        _,
    ):
        found = reported(url, None)
    assert len(found) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_named_and_not_followed_and_the_token_stays(status):
    with hostile(page("")) as (elsewhere, asked_there):
        to = elsewhere.replace("http://", "http://user:hunter2@") + "?key=hunter2"
        answer = f"HTTP/1.1 {status} There\r\nlocation: {to}\r\n\r\n".encode()
        with hostile([answer]) as (url, asked):
            (finding,) = reported(url, "sesame")
    assert elsewhere in finding
    assert "not followed" in finding
    assert "hunter2" not in finding
    assert b"Authorization: Bearer sesame\r\n" in asked[0]
    assert not asked_there


def test_no_proxy_is_told_the_token(monkeypatch):
    with hostile(page("")) as (proxy, asked_there), hostile(page("")) as (url, asked):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        reported(url, "sesame")
    assert asked
    assert not asked_there


def test_a_token_that_is_sent_back_is_not_shown():
    text = f'{ERRORS}{{error_type="Bearer sesame"}} 1\n'
    refusal = b"HTTP/1.1 503 sesame\r\n\r\nBearer sesame"
    for pieces in (page(text), [refusal]):
        with hostile(pieces) as (url, _):
            (finding,) = reported(url, "sesame")
        assert "sesame" not in finding


def test_a_password_in_the_address_is_used_and_not_shown():
    with hostile(page("")) as (url, asked):
        (finding,) = reported(url.replace("http://", "http://u:hunter2@"), None)
    assert b"Authorization: Basic dTpodW50ZXIy\r\n" in asked[0]
    assert "hunter2" not in finding


@pytest.mark.parametrize(
    "url",
    [
        "http://u:hunter2@127.0.0.1:{port}/m?key=hunter2#hunter2",
        "http://127.0.0.1:{port}/m?key=a@hunter2",
        "http://u:p/hunter2@127.0.0.1:{port}/",
        "http://u:p?hunter2@127.0.0.1:{port}/",
        "http://u:p#hunter2@127.0.0.1:{port}/",
        "http://u:hunter2@127.0.0.1:port/",
        "http://u:hunter2@[::1/",
        "u:hunter2@127.0.0.1/metrics",
        "ftp://u:hunter2@127.0.0.1/metrics",
    ],
)
def test_no_address_shows_what_is_secret_in_it(url):
    (finding,) = reported(url.format(port=free_port()), None)
    assert "hunter2" not in finding


def test_an_exception_that_nobody_thought_of_is_one_line(monkeypatch):
    def fail(*_):
        raise http.client.HTTPException("hunter2")

    monkeypatch.setattr(fetch, "_connection", fail)
    (finding,) = reported("http://127.0.0.1/metrics", None)
    assert "HTTPException" in finding
    assert "hunter2" not in finding


def test_a_dependency_that_drips_ends_the_doctor_in_time(capsys):
    with hostile([OK, *repeat(b"x", 1000)], pause=0.05) as (url, _):
        address = url.replace("http://", "postgresql://")
        environ = {
            "OTEL_COACH_DEPENDENCIES": f"db={address}",
            "OTEL_COACH_DEPENDENCY_TIMEOUT": "0.2",
        }
        started = time.monotonic()
        (finding,) = said(dependencies.look(examined(**environ)))
    assert "dependency db does not answer" in finding
    assert time.monotonic() - started < 10


def test_what_is_printable_stays_as_it_is():
    assert printable("a müde 日本 \U0001f600") == "a müde 日本 \U0001f600"
    assert printable("\ud800\0\r\n\t\u200b\x85") == "\\ud800\\x00\\r\\n\\t\\u200b\\x85"
