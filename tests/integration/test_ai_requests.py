"""AI requests and streams, through a real uvicorn over real sockets."""

import asyncio
import time

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from tests.support.applications import AI, HTTP, ask, counted, streaming_app
from tests.support.leaving import asked
from tests.support.serving import serving
from tests.support.waiting import eventually


class Nothing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


# AI requests and streams

LABELS = {"model": "none", "mode": "stream"}


def test_a_stream_counts_its_chunks_once_at_its_end(measured):
    with serving(streaming_app()) as client:
        received = [chunk for chunk in client.get("/stream/7").text.splitlines() if chunk]
    page = measured.page()
    assert page.samples("app_ai_stream_chunks_total") == [
        ({"endpoint": "/stream/{count}", "status": "ok", **LABELS}, len(received))
    ]
    assert page.sum(AI, status="ok", **LABELS) == 1
    assert page.sum("app_ai_time_to_first_chunk_seconds_count", **LABELS) == 1
    assert page.samples("app_ai_stream_aborts_total", status="aborted") == [
        ({"endpoint": "/stream/{count}", "status": "aborted", **LABELS}, 0)
    ]
    assert page.samples("app_ai_streams_active") == [({"endpoint": "/stream/{count}"}, 0)]


def test_a_plain_answer_is_an_ai_request_and_no_stream(measured):
    with serving(streaming_app()) as client:
        client.get("/plain")
    page = measured.page()
    assert page.sum(AI, endpoint="/plain", mode="invoke", status="ok") == 1
    assert page.sum("app_ai_stream_chunks_total") == 0


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_that_has_no_body_is_no_stream(measured, method, status):
    app = FastAPI()

    @app.api_route("/answer", methods=["GET", "HEAD"])
    def answer():
        ask()
        return StreamingResponse(iter(["a", "b"] if status == 200 else []), status)

    with serving(app) as client:
        assert client.request(method, "/answer").status_code == status
    page = measured.page()
    assert page.sum(AI, endpoint="/answer", mode="invoke", status="ok") == 1
    assert {name for name in page.names if "stream" in name or "first_chunk" in name} == set()


def test_head_that_a_client_leaves_before_any_answer_is_aborted(measured):
    app = FastAPI()

    @app.head("/slow")
    async def slow():
        ask()
        await asyncio.sleep(0.3)

    with serving(app) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.request("HEAD", "/slow", timeout=0.1)
        eventually(lambda: measured.page().sum(AI, endpoint="/slow"))
    assert measured.page().sum(AI, endpoint="/slow", status="aborted") == 1


def test_a_request_without_ai_work_is_no_ai_request(measured):
    app = FastAPI()

    @app.get("/stream")
    def stream():
        return StreamingResponse(iter(["a", "b"]))

    with serving(app) as client:
        client.get("/stream")
    assert counted(measured) == {("/stream", "GET", "200"): 1}
    assert counted_names(measured, "app_ai_") == set()


def counted_names(measured, prefix):
    return {name for name in measured.page().names if name.startswith(prefix)}


def test_a_stream_is_active_while_it_is_open(measured):
    with (
        serving(streaming_app()) as client,
        client.stream("GET", "/stream/3?pause=0.4") as response,
    ):
        chunks = response.iter_raw()
        next(chunks)
        assert measured.page().sum("app_ai_streams_active", endpoint="/stream/{count}") == 1
        list(chunks)
        eventually(lambda: measured.page().sum("app_ai_streams_active") == 0)


def test_a_client_that_leaves_a_stream_aborts_it_and_is_no_error(measured):
    with serving(streaming_app()) as client:
        with client.stream("GET", "/stream/1000?pause=0.02") as response:
            chunks = response.iter_raw()
            for _ in range(3):
                next(chunks)
        eventually(lambda: measured.page().sum(AI) == 1)
    page = measured.page()
    labels = {"endpoint": "/stream/{count}", "status": "aborted"}
    assert page.sum("app_ai_stream_aborts_total", **labels) == 1
    assert page.sum(AI, **labels) == 1
    assert 3 <= page.sum("app_ai_stream_chunks_total", **labels) < 100
    assert page.sum("app_ai_stream_chunks_total", status="ok") == 0
    (span,) = (span for span in measured.spans if span.kind.name == "SERVER")
    assert span.status.status_code.name == "UNSET"
    assert span.attributes["otel_coach.outcome"] == "aborted"


def test_a_client_that_leaves_before_the_response_is_aborted_in_the_duration_alone(measured):
    with serving(streaming_app()) as client:
        with asked(client.base_url, "/slow"):
            time.sleep(0.2)
        eventually(lambda: measured.page().sum(AI) == 1)
    page = measured.page()
    assert page.sum(AI, endpoint="/slow", status="aborted") == 1
    assert counted_names(measured, "app_ai_stream_") == set()


@pytest.mark.parametrize(
    "middlewares", [(), (Nothing,), (GZipMiddleware,), (Nothing, GZipMiddleware)]
)
def test_a_client_that_leaves_between_the_last_call_and_a_plain_answer_is_aborted(
    measured, middlewares
):
    """A BaseHTTPMiddleware sends the whole answer in a part that is not the last."""
    app = FastAPI()
    for middleware in middlewares:
        app.add_middleware(middleware)

    @app.get("/plain")
    async def plain():
        ask()
        await asyncio.sleep(0.5)
        return "x" * 1000

    with serving(app) as client:
        with asked(client.base_url, "/plain"):
            time.sleep(0.2)
        eventually(lambda: measured.page().sum(AI) == 1)
    assert measured.page().sum(AI, endpoint="/plain", status="aborted") == 1


def test_an_exception_in_a_stream_is_an_error(measured):
    import httpx

    with serving(streaming_app()) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/breaks")
        eventually(lambda: measured.page().sum(AI) == 1)
    assert measured.page().sum(AI, endpoint="/breaks", status="error") == 1
    (span,) = (span for span in measured.spans if span.kind.name == "SERVER")
    assert span.attributes["error.type"] == "RuntimeError"


def test_background_work_makes_no_ai_request_but_its_calls_count(measured):
    with serving(streaming_app()) as client:
        client.get("/background")
        eventually(lambda: measured.page().sum("agent_llm_requests_total") == 1)
    page = measured.page()
    assert page.sum(AI) == 0
    assert page.sum(HTTP, endpoint="/background") == 1


@pytest.mark.parametrize("middlewares", [(Nothing,), (GZipMiddleware,), (Nothing, GZipMiddleware)])
def test_middlewares_around_the_stream_change_no_outcome(measured, middlewares):
    app = streaming_app()
    for middleware in middlewares:
        app.add_middleware(middleware)
    with serving(app) as client:
        assert len(client.get("/stream/5").text.splitlines()) == 5
        with client.stream("GET", "/stream/1000?pause=0.02") as response:
            next(response.iter_raw())
        client.get("/plain")
        eventually(lambda: measured.page().sum(AI) == 3)
    page = measured.page()
    assert page.sum(AI, endpoint="/stream/{count}", status="ok") == 1
    assert page.sum(AI, endpoint="/stream/{count}", status="aborted") == 1
    # GZip around a BaseHTTPMiddleware takes the content-length away: that is a stream.
    mode = "stream" if middlewares == (Nothing, GZipMiddleware) else "invoke"
    assert page.sum(AI, endpoint="/plain", mode=mode, status="ok") == 1
    assert page.sum("app_ai_stream_aborts_total") == 1


def test_the_last_outermost_run_decides_even_behind_a_200(measured):
    app = FastAPI()

    def broken():
        from langchain_core.runnables import RunnableLambda

        return RunnableLambda(lambda _: 1 / 0)

    @app.get("/hidden")
    def hidden():
        ask()
        try:
            broken().invoke(1)
        except ZeroDivisionError:
            return "all is well"

    @app.get("/recovered")
    def recovered():
        try:
            broken().invoke(1)
        except ZeroDivisionError:
            return ask()

    with serving(app) as client:
        assert client.get("/hidden").status_code == 200
        assert client.get("/recovered").status_code == 200
    page = measured.page()
    assert page.sum(AI, endpoint="/hidden", status="error") == 1
    assert page.sum(AI, endpoint="/recovered", status="ok") == 1
