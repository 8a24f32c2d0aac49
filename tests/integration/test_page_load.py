"""Many clients who want the page of a service at once."""

import errno
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack
from http import HTTPStatus

import anyio
import httpx
from fastapi import FastAPI

from otel_coach.prometheus import http as http_package
from otel_coach.prometheus.http.asgi_endpoint import MetricsEndpoint
from otel_coach.testing import Page, measuring
from tests.support.page_flood import answered
from tests.support.serving import serving

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"


def test_who_is_one_too_many_gets_an_answer(monkeypatch):
    with measuring() as measured, serving(FastAPI()) as client:
        monkeypatch.setattr(measured.installation.renders, "ask", lambda *_: None)
        answer = client.get("/metrics")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"] == "1"
    assert answer.text.startswith("otel-coach: too many wait")


def test_without_a_descriptor_for_an_import_there_is_an_answer(monkeypatch):
    """The first scrape of a process that has none left."""
    from otel_coach.prometheus.http import waiting

    class NoDescriptor:
        @staticmethod
        def find_spec(name, *_):
            if name == waiting.__name__:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with measuring(), serving(FastAPI()) as client:
        with monkeypatch.context() as patched:
            patched.delitem(sys.modules, waiting.__name__)
            patched.delattr(http_package, "waiting")
            patched.setattr(sys, "meta_path", [NoDescriptor, *sys.meta_path])
            answer = client.get("/metrics")
        assert client.get("/metrics").status_code == HTTPStatus.OK
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert "Too many open files" in answer.text
    assert "ulimit" in answer.text


def test_strangers_who_ask_and_leave_make_no_work_and_others_are_answered():
    """100 at a time on a real socket; their pages would take a minute."""
    app = FastAPI()

    @app.get("/health")
    async def health():
        return "ok"

    with measuring() as measured, serving(app) as client, ExitStack() as sockets:
        page = measured.installation.page
        made, render = [], page.render

        def counted(*arguments):
            made.append(time.monotonic())
            time.sleep(0.3)
            return render(*arguments)

        page.render = counted
        address = ("127.0.0.1", client.base_url.port)
        for _ in range(2):
            strangers = [socket.create_connection(address, 5) for _ in range(100)]
            for stranger in strangers:
                stranger.sendall(REQUEST)
            assert client.get("/health").status_code == HTTPStatus.OK
            for stranger in strangers:
                stranger.close()
        staying = [sockets.enter_context(socket.create_connection(address, 5)) for _ in range(50)]
        for one in staying:
            one.sendall(REQUEST)
        answer = client.get("/metrics")
        assert Page(answer.text).samples("otel_coach_errors_total")
        assert client.get("/health").status_code == HTTPStatus.OK
        for one in staying:
            assert one.recv(12) == b"HTTP/1.1 200"
        assert len(made) <= 25  # for 250 who asked


def test_a_large_page_is_sent_in_pieces():
    """So that a client that does not read keeps little of it in the server's memory."""
    app = FastAPI()
    with measuring() as measured, serving(app) as client:
        counter = measured.installation.providers.meter_provider.get_meter("x").create_counter("c")
        for number in range(900):
            counter.add(1, {"endpoint": f"/{number}" + "x" * 100})
        answer = client.get("/metrics")
        assert len(Page(answer.text).samples("c_total")) > 50
        renders = measured.installation.renders
        sent = []

        async def send(message):
            sent.append(message)

        found = answered(renders)._replace(body=b"x" * 200_000)
        endpoint = MetricsEndpoint(renders, "/metrics", measured.installation.recorder)

        async def receive():
            await anyio.sleep_forever()

        anyio.run(endpoint.send, receive, send, found)
    start, *bodies = sent
    assert dict(start["headers"])[b"content-length"] == b"200000"
    assert b"".join(one["body"] for one in bodies) == b"x" * 200_000
    assert max(len(one["body"]) for one in bodies) <= 1 << 16
    assert [one["more_body"] for one in bodies] == [True, True, True, False]


def test_ten_scrapers_at_once_get_what_was_answered_before_they_asked():
    app = FastAPI()

    @app.get("/health")
    async def health():
        return "ok"

    with measuring(), serving(app) as client:
        for number in range(5):
            client.get("/health")
            found = []

            def scrape(found=found):
                found.append(Page(httpx.get(f"{client.base_url}/metrics").text))

            scrapers = [threading.Thread(target=scrape) for _ in range(10)]
            for scraper in scrapers:
                scraper.start()
            for scraper in scrapers:
                scraper.join()
            counts = {
                page.sum("http_server_request_duration_seconds_count", endpoint="/health")
                for page in found
            }
            assert counts == {number + 1}
