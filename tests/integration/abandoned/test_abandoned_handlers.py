"""Handlers of WebSockets that do more than to await: they clean up, use tools, take turns."""

import asyncio
import gc
import inspect
import threading
import time
from contextlib import suppress

import pytest
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from otel_coach import Settings
from otel_coach.instrumentors.asgi import stopping_exchange
from otel_coach.instrumentors.asgi.turns import Turn
from otel_coach.testing import measuring
from tests.support.abandoned_models import Notes
from tests.support.abandoned_sockets import hang_up, leave
from tests.support.abandoned_work import EMPTY, SOON, STOPPED, Caller
from tests.support.serving import serving
from tests.support.sockets import socket_to
from tests.support.waiting import eventually

pytestmark = pytest.mark.server
REQUESTS = "app_ai_request_duration_seconds_count"


@pytest.fixture
def notes():
    return Notes(pause=0.04)


def chat(answer, seen):
    """An application whose handler notes with which exception its answer ends."""
    app = FastAPI()

    @app.websocket("/chat")
    async def handler(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
            await answer(websocket)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    return app


@pytest.mark.parametrize("how", ["closes", "sends"])
def test_a_handler_that_cleans_up_by_its_socket_does_not_wait(stopping, work, notes, how):
    seen, cleaned_up = [], []

    async def answer(websocket):
        try:
            async for _ in work.graph.astream(EMPTY, stream_mode="messages"):
                await websocket.send_text("x")
        finally:
            with suppress(WebSocketDisconnect, RuntimeError):
                await (websocket.close() if how == "closes" else websocket.send_text("bye"))
            cleaned_up.append(True)

    with serving(chat(answer, seen)) as client:
        leave(client, "/chat", notes)
        eventually(lambda: cleaned_up)
    assert seen == ["WebSocketDisconnect"]


def test_a_tool_that_awaits_the_client_is_told(stopping, notes):
    seen = []

    async def answer(websocket):
        @tool
        async def ask(question: str) -> str:
            """Asks the user."""
            notes.tool += 4
            return await websocket.receive_text()

        await ask.ainvoke({"question": "really?"})

    with serving(chat(answer, seen)) as client:
        leave(client, "/chat", notes)
        eventually(lambda: seen)
    assert seen == ["WebSocketDisconnect"]


def test_a_handler_that_pauses_between_two_parts_is_told(stopping, work, notes):
    seen = []

    async def answer(websocket):
        async for _ in work.model.astream("hi"):
            await websocket.send_text("x")
            await asyncio.sleep(0.2)

    with serving(chat(answer, seen)) as client:
        leave(client, "/chat", notes, after=1)
        eventually(lambda: seen)
    assert seen == ["WebSocketDisconnect"]
    assert len(notes.tokens) < SOON


async def a_server_whose_third_send_fails(app):
    """Serves one socket; it knows that the client has left when it sends."""
    received = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]
    sent = []

    async def receive():
        if not received:
            await asyncio.Event().wait()
        return received.pop(0)

    async def send(message):
        sent.append(message)
        if len(sent) == 1 + 3:
            raise OSError

    scope = {"type": "websocket", "path": "/chat", "headers": [], "query_string": b""}
    with suppress(WebSocketDisconnect):
        await app(scope, receive, send)
    await asyncio.sleep(0.1)  # in which what was stopped cleans up


def test_a_send_that_fails_does_not_cancel_what_its_handler_closes(stopping, work, notes):
    seen = []

    async def answer(websocket):
        async for _ in work.graph.astream(EMPTY, stream_mode="messages"):
            await websocket.send_text("x")

    asyncio.run(a_server_whose_third_send_fails(chat(answer, seen)))
    assert seen == ["WebSocketDisconnect"]
    assert notes.raised == ["CancelledError", "cleaned up"]


def test_what_a_handler_leaves_open_ends_after_a_send_that_failed(stopping, work, notes):
    kept, seen = [], []

    async def answer(websocket):
        kept.append(work.graph.astream(EMPTY, stream_mode="messages"))
        async for _ in kept[0]:
            await websocket.send_text("x")

    asyncio.run(a_server_whose_third_send_fails(chat(answer, seen)))
    assert seen == ["WebSocketDisconnect"]
    assert notes.raised == ["CancelledError", "cleaned up"]


def test_a_turn_that_begins_after_the_leaving_is_stopped_too(stopping, work, notes):
    seen = []

    async def answer(websocket):
        await work.model.ainvoke("hi")
        await websocket.receive_text()
        await work.graph.ainvoke(EMPTY)

    with serving(chat(answer, seen)) as client:
        with socket_to(client, "/chat") as connection:
            connection.send("a")
            connection.send("b")
            eventually(lambda: len(notes.tokens) > 3)
            hang_up(connection)
        total = Caller(client.base_url, notes).rest()
        eventually(lambda: seen)
    assert seen == ["WebSocketDisconnect"]
    assert total < SOON


def test_a_model_stays_asynchronous_for_those_who_ask(stopping):
    model = FakeListChatModel(responses=["hi"])
    assert inspect.iscoroutinefunction(model.ainvoke)
    chain = RunnableLambda(model.ainvoke) | RunnableLambda(lambda answer: answer.content)
    assert asyncio.run(chain.ainvoke("hello")) == "hi"


def test_a_turn_whose_model_starts_in_a_thread_after_the_leaving_is_stopped():
    left, entered = threading.Event(), threading.Event()
    app = FastAPI()

    def wait(text):
        entered.set()
        left.wait(60)
        return text

    chain = RunnableLambda(wait) | FakeListChatModel(responses=["hi"]) | RunnableLambda(str)

    @app.websocket("/chat")
    async def chat(websocket: WebSocket):
        asyncio.get_running_loop().set_debug(True)  # it raises if a thread uses it
        await websocket.accept()
        await websocket.receive_text()
        await asyncio.to_thread(chain.invoke, "hi")

    settings = {"stop_abandoned": True, "stop_after": 0, "excluded_urls": "/chat"}  # without a span
    with measuring(Settings(**settings)) as measured, serving(app) as client:
        with socket_to(client, "/chat") as connection:
            connection.send("a")
            entered.wait(60)
            hang_up(connection)
        time.sleep(0.2)
        left.set()
        eventually(lambda: measured.page().sum(REQUESTS) == 1)
        assert measured.page().sum(REQUESTS, status="aborted") == 1
        assert not measured.page().sum("otel_coach_errors_total")


@pytest.mark.parametrize("pause", [0.02, 0.5])
def test_code_that_looks_for_its_client_cancels_its_work_itself(stopping, work, notes, pause):
    """By Starlette's `is_disconnected`; its work is in a task that it does not await."""
    app = FastAPI()
    seen = []

    @app.get("/chat")
    async def chat(request: Request):
        task = asyncio.create_task(work.graph.ainvoke(EMPTY))
        while not task.done():
            if await request.is_disconnected():
                task.cancel()
                seen.append("left")
                break
            await asyncio.sleep(pause)
        return {}

    with serving(app) as client:
        caller = Caller(client.base_url, notes)
        caller.leave("/chat")
        total = caller.rest()
    assert seen == ["left"]
    assert total < SOON + pause / notes.pause
    assert notes.raised == ["CancelledError", "cleaned up"]


def test_code_that_looks_and_goes_on_is_stopped(stopping, work, notes, monkeypatch):
    monkeypatch.setattr(stopping_exchange, "_MAX_REACTION", 0.1)
    app = FastAPI()

    @app.get("/chat")
    async def chat(request: Request):
        async def look():
            while not await request.is_disconnected():  # noqa: ASYNC110 - as applications do
                await asyncio.sleep(0.02)

        looking = asyncio.create_task(look())
        await work.graph.ainvoke(EMPTY)
        await looking

    with serving(app) as client:
        caller = Caller(client.base_url, notes)
        caller.leave("/chat")
        total = caller.rest()
    assert total < SOON + 0.1 / notes.pause
    assert notes.raised == ["CancelledError", "cleaned up"]
    assert stopping.page().sum(STOPPED) == 1


# Without stopping, too


SETTINGS = [Settings(), Settings(stop_abandoned=True, stop_after=0)]


@pytest.mark.parametrize("settings", SETTINGS, ids=["", "stopping"])
def test_a_long_conversation_keeps_no_earlier_turns(settings):
    app = FastAPI()
    model = FakeListChatModel(responses=["hi"])

    @app.websocket("/chat")
    async def chat(websocket: WebSocket):
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                await websocket.send_text(
                    (await model.ainvoke(await websocket.receive_text())).content
                )

    def turns():
        gc.collect()
        return sum(isinstance(one, Turn) for one in gc.get_objects())

    before = turns()  # of other tests
    with (
        measuring(settings) as measured,
        serving(app) as client,
        socket_to(client, "/chat") as user,
    ):
        for _ in range(100):
            user.send("hello")
            assert user.recv(timeout=60) == "hi"
        eventually(lambda: measured.page().sum(REQUESTS, status="ok") >= 99)
        assert turns() < before + 10


@pytest.mark.parametrize("settings", SETTINGS, ids=["", "stopping"])
def test_event_streams_of_turns_that_overlap_are_counted_whole(settings):
    app = FastAPI()
    model = FakeListChatModel(responses=["four"], sleep=0.02)
    sent = []

    @app.websocket("/chat")
    async def chat(websocket: WebSocket):
        async def answer(text):
            async for _ in model.astream_events(text, version="v2"):
                await websocket.send_text("x")
                sent.append(text)
            await websocket.send_text("end")
            sent.append(text)

        await websocket.accept()
        tasks = []
        with suppress(WebSocketDisconnect):
            while True:
                tasks.append(asyncio.create_task(answer(await websocket.receive_text())))
        await asyncio.gather(*tasks)

    with measuring(settings) as measured, serving(app) as client:
        with socket_to(client, "/chat") as user:
            user.send("a")
            user.send("b")
            ends = 0
            while ends < 2:
                ends += user.recv(timeout=60) == "end"
            eventually(lambda: measured.page().sum(REQUESTS, status="ok") == 2)
        chunks = measured.page().sum("app_ai_stream_chunks_total", status="ok")
    assert chunks == len(sent)
    assert not measured.page().sum(STOPPED)
