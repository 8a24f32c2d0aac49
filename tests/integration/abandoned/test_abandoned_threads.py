"""Work in threads, which cannot be cancelled, whose client has left."""

import asyncio

import pytest
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from tests.support.abandoned_models import TOKENS
from tests.support.abandoned_work import EMPTY, MIDDLEWARES, SOON, STEPS, STOPPED, made


def sync_route(work):
    def route():
        work.sync_graph.invoke(EMPTY)

    return route


def sync_stream_in_a_route(work):
    def route():
        for _ in range(STEPS):
            for _ in work.model.stream("hi"):
                pass

    return route


def thread_that_is_awaited(work):
    async def route():
        await asyncio.to_thread(work.sync_graph.invoke, EMPTY)

    return route


def pool_of_starlette(work):
    async def route():
        await run_in_threadpool(work.sync_graph.invoke, EMPTY)

    return route


def sync_nodes(work):
    async def route():
        await work.sync_graph.ainvoke(EMPTY)

    return route


def sync_generator(work):
    def route():
        def parts():
            for _ in work.sync_graph.stream(EMPTY, stream_mode="messages"):
                yield "x"

        return StreamingResponse(parts())

    return route


@pytest.mark.server
@pytest.mark.parametrize("middlewares", MIDDLEWARES)
@pytest.mark.parametrize(
    ("make", "most"),
    [
        (sync_route, TOKENS),
        (thread_that_is_awaited, TOKENS),
        (pool_of_starlette, TOKENS),
        (sync_nodes, TOKENS),
        (sync_stream_in_a_route, SOON),
        (sync_generator, SOON),
    ],
)
def test_no_call_follows_the_one_that_a_thread_makes(
    stopping, work, notes, make, most, middlewares, capfd
):
    """A call that streams ends at its next chunk; another runs to its end."""
    app = FastAPI()
    for middleware in middlewares:
        app.add_middleware(middleware)
    app.get("/answer")(make(work))
    total, _ = made(app, "/answer", notes)
    assert total <= most
    page = stopping.page()
    assert page.sum("agent_llm_requests_total") == 1
    assert page.sum("app_ai_request_duration_seconds_count", status="aborted") == 1
    assert page.sum("otel_coach_errors_total") == 0
    assert "Traceback" not in capfd.readouterr().err
    if make is not sync_generator:  # which may be told by the garbage collector only
        assert page.sum(STOPPED, endpoint="/answer") == 1


@pytest.mark.server
def test_no_retry_and_no_fallback_goes_on_in_a_thread(stopping, work, notes):
    app = FastAPI()
    asked = work.model.with_retry(stop_after_attempt=5).with_fallbacks([work.model])

    @app.get("/answer")
    def answer():
        for _ in range(STEPS):
            try:
                asked.invoke("hi")
            except Exception as error:  # noqa: BLE001 - as applications do
                notes.raised.append(error)

    total, _ = made(app, "/answer", notes)
    assert total == TOKENS
    assert not notes.raised
