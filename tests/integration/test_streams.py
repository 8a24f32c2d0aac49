"""Chunks against what a bare socket reads, through the ways in which applications stream."""

import asyncio
import base64
import gc
import random
import socket
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.serving import serving, serving_by_hypercorn
from tests.support.waiting import eventually

try:
    from fastapi.sse import EventSourceResponse as FastAPIEventSourceResponse
except ImportError:  # FastAPI before it had server-sent events of its own
    FastAPIEventSourceResponse = None
MODEL = FakeListChatModel(responses=["one two three"])
AI, CHUNKS = "app_ai_request_duration_seconds_count", "app_ai_stream_chunks_total"
ABORTS, OPEN = "app_ai_stream_aborts_total", "app_ai_streams_active"


async def pieces(count, pause):
    await MODEL.ainvoke("hi")
    for number in range(count):
        # More, and more random, than GZip could hold back until it has enough.
        yield base64.b64encode(random.Random(number).randbytes(60_000)).decode() + "\n"
        await asyncio.sleep(pause)


class Through(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


def plain_app(*middlewares):
    app = FastAPI()

    @app.get("/stream")
    async def stream(count: int, pause: float = 0.0):
        return StreamingResponse(pieces(count, pause), media_type="text/plain")

    for middleware in middlewares:
        app.add_middleware(middleware)
    return app


def sse_starlette_app():
    app = FastAPI()

    @app.get("/stream")
    async def stream(count: int, pause: float = 0.0):
        return EventSourceResponse({"data": piece} async for piece in pieces(count, pause))

    return app


def fastapi_sse_app():
    app = FastAPI()

    @app.get("/stream", response_class=FastAPIEventSourceResponse)
    async def stream(count: int, pause: float = 0.0):
        async for piece in pieces(count, pause):
            yield piece

    return app


APPS = {
    "StreamingResponse": plain_app,
    "GZipMiddleware": lambda: plain_app(GZipMiddleware),
    "BaseHTTPMiddleware": lambda: plain_app(Through),
    "BaseHTTPMiddleware in GZipMiddleware": lambda: plain_app(Through, GZipMiddleware),
    "sse-starlette": sse_starlette_app,
    "FastAPI's server-sent events": fastapi_sse_app,
}
if FastAPIEventSourceResponse is None:
    del APPS["FastAPI's server-sent events"]


class Listener:
    """A client that counts the chunks of HTTP's chunked transfer coding on the wire."""

    def __init__(self, base_url, target):
        address = urlsplit(str(base_url))
        self._socket = socket.create_connection((address.hostname, address.port), timeout=10)
        head = f"GET {target} HTTP/1.1\r\nHost: local\r\nAccept-Encoding: gzip\r\n\r\n"
        self._socket.sendall(head.encode())
        self._file = self._socket.makefile("rb")
        while self._file.readline() != b"\r\n":
            pass

    def next_chunk(self):
        """Read one chunk; False if it is the last, empty one."""
        size = int(self._file.readline(), 16)
        self._file.read(size + 2)
        return size > 0

    def count(self):
        count = 0
        while self.next_chunk():
            count += 1
        return count

    def leave(self):
        self._file.close()
        self._socket.close()


@pytest.fixture(autouse=True)
def new_event_loops(monkeypatch):
    # Before 3.0, sse-starlette kept an event of the process's first event loop.
    monkeypatch.setattr(AppStatus, "should_exit_event", None, raising=False)


@pytest.mark.parametrize("kind", APPS)
def test_chunks_are_those_on_the_wire(measured, kind):
    with serving(APPS[kind]()) as client:
        listener = Listener(client.base_url, "/stream?count=9")
        on_the_wire = listener.count()
        listener.leave()
        eventually(lambda: measured.page().sum(AI) == 1)
    page = measured.page()
    assert on_the_wire >= 9
    assert page.sum(CHUNKS, endpoint="/stream", status="ok", mode="stream") == on_the_wire
    assert page.sum(CHUNKS) == on_the_wire
    assert page.sum(AI, status="ok") == 1
    assert page.sum(ABORTS) == page.sum(OPEN) == 0
    assert page.sum("app_ai_time_to_first_chunk_seconds_count") == 1


@pytest.mark.parametrize("kind", APPS)
def test_an_abandoned_stream_counts_what_it_handed_over(measured, kind):
    with serving(APPS[kind]()) as client:
        listener = Listener(client.base_url, "/stream?count=2000&pause=0.02")
        read = 3
        assert all(listener.next_chunk() for _ in range(read))
        assert measured.page().sum(OPEN, endpoint="/stream") == 1
        listener.leave()
        eventually(lambda: measured.page().sum(ABORTS) == 1)
    page = measured.page()
    assert read <= page.sum(CHUNKS, status="aborted") < 500
    assert page.sum(CHUNKS) == page.sum(CHUNKS, status="aborted")
    assert page.sum(AI, status="aborted") == page.sum(AI) == 1
    assert page.sum(OPEN) == 0


SLOW = FakeListChatModel(responses=["one two three"], sleep=0.05)
BESIDE = {
    "parallel": (2, "hi", RunnableParallel(a=SLOW, b=SLOW)),
    "in a chain": (2, "hi", RunnableLambda(str) | RunnableParallel(a=SLOW, b=SLOW)),
    "assigned": (1, {"x": 1}, RunnablePassthrough.assign(a=RunnableLambda(str) | SLOW)),
}
"""Chains that run in tasks beside the one that streams: the calls they make, and their input."""


@pytest.mark.parametrize("how", ["the client leaves", "the application stops reading"])
@pytest.mark.parametrize("kind", BESIDE)
def test_calls_in_tasks_of_a_stream_that_is_left_are_told_without_the_collector(
    measured, kind, how
):
    calls, question, chain = BESIDE[kind]
    app = FastAPI()

    async def parts():
        async for _ in chain.astream(question):
            yield "x"
            if how == "the application stops reading":
                break

    app.get("/stream")(lambda: StreamingResponse(parts()))
    gc.collect()
    gc.disable()
    try:
        with serving(app) as client:
            listener = Listener(client.base_url, "/stream")
            # The first part of what is assigned is the input, before any call.
            assert all(listener.next_chunk() for _ in range(4 if "client" in how else 1))
            listener.leave()
            eventually(lambda: measured.page().sum("agent_llm_requests_total") == calls)
    finally:
        gc.enable()
    assert measured.page().sum("agent_llm_requests_total", status="aborted") == calls


@pytest.mark.parametrize("stops", [False, True])
def test_hypercorn_reports_the_end_of_a_connection_and_the_stream_is_complete(stops):
    """While it takes the last message of a response after which the connection is closed."""
    app = plain_app()
    app.get("/health")(lambda: "ok")

    @app.get("/whole")
    async def whole():
        await MODEL.ainvoke("hi")
        return StreamingResponse(iter(["hi"]), headers={"content-length": "2"})

    with measuring(Settings(stop_abandoned=stops)) as measured, serving_by_hypercorn(app) as client:
        for _ in range(10):
            client.get("/stream?count=3", headers={"connection": "close"}).raise_for_status()
        eventually(lambda: measured.page().sum(AI) == 10)
        assert measured.page().sum(AI, status="ok") == 10
        assert measured.page().sum(ABORTS) == 0
        for _ in range(10):
            client.get("/whole", headers={"connection": "close"}).raise_for_status()
        eventually(lambda: measured.page().sum(AI) == 20)
        assert measured.page().sum(AI, status="ok") == 20
        # Who leaves in the middle is noticed all the same.
        with client.stream("GET", "/stream?count=1000&pause=0.01") as answer:
            next(answer.iter_bytes())
        eventually(lambda: measured.page().sum(AI, status="aborted") == 1)
        assert measured.page().sum(ABORTS) == 1
