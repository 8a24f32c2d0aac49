"""WebSockets whose messages are answered by a task of their own."""

import asyncio
import itertools
import time
from contextlib import suppress

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from langchain_core.messages import AIMessage

from otel_coach.instrumentors.asgi import turns
from tests.support.scripted_model import Scripted
from tests.support.serving import serving
from tests.support.sockets import Sockets, socket_to
from tests.support.waiting import eventually

REQUESTS = "app_ai_request_duration_seconds_count"


def test_a_worker_that_takes_messages_from_a_queue_makes_a_turn_of_each(measured):
    app = FastAPI()
    model = Scripted(answer=AIMessage("hi"))

    async def answer(websocket, text):
        await asyncio.sleep(0.1)
        await model.ainvoke(text)
        await websocket.send_text(text)

    app.add_api_websocket_route("/ws", Sockets.by_a_queue(answer))
    with serving(app) as client, socket_to(client, "/ws") as connection:
        connection.send("one")
        time.sleep(0.05)
        connection.send("two")  # while the first is answered
        assert [connection.recv(timeout=60) for _ in range(2)] == ["one", "two"]
        connection.send("three")
        assert connection.recv(timeout=60) == "three"
        eventually(lambda: measured.page().sum(REQUESTS, endpoint="/ws", status="ok") == 3)
    assert measured.page().sum(REQUESTS) == 3
    assert measured.page().sum("app_ai_time_to_first_chunk_seconds_count") == 3


async def after(seconds, model):
    await asyncio.sleep(seconds)
    return await model.ainvoke("hi")


async def one_after_another(model):
    """As `asyncio.wait_for` does it until Python 3.12: each call is in a task of its own."""
    for _ in range(2):
        await asyncio.create_task(model.ainvoke("hi"))


HELPERS = {
    "a task": lambda model: asyncio.create_task(model.ainvoke("hi")),
    "one after another": one_after_another,
    "gather": lambda model: asyncio.gather(model.ainvoke("hi"), after(0.1, model)),
    "gather, the first ends last": lambda model: asyncio.gather(
        after(0.1, model), model.ainvoke("hi")
    ),
}


def answered_in_tasks(answer):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        async with asyncio.TaskGroup() as tasks:
            with suppress(WebSocketDisconnect):
                while True:
                    tasks.create_task(answer(websocket, await websocket.receive_text()))

    return endpoint


@pytest.mark.parametrize(
    ("shape", "answers"),
    list(itertools.product([answered_in_tasks, Sockets.by_a_queue], [True, False])),
)
@pytest.mark.parametrize("helpers", HELPERS)
def test_tasks_that_help_to_answer_a_message_are_of_its_turn(
    measured, shape, helpers, answers, monkeypatch
):
    """The turn ends with what the task sends that they work for, not with a helper's end."""
    monkeypatch.setattr(turns, "_WORKER_SILENCE", 2.0)
    app = FastAPI()
    model = Scripted(answer=AIMessage("hi"))

    async def answer(websocket, text):
        await HELPERS[helpers](model)
        if answers:
            await asyncio.sleep(0.02)
            await websocket.send_text(text)

    app.add_api_websocket_route("/ws", shape(answer))
    with serving(app) as client, socket_to(client, "/ws") as connection:
        for text in ("one", "two", "three"):
            connection.send(text)
            if answers:
                assert connection.recv(timeout=60) == text
            time.sleep(0.3)
        eventually(lambda: measured.page().sum(REQUESTS, status="ok") == 3)
        eventually(lambda: measured.page().sum("app_ai_streams_active") == 0)
    page = measured.page()
    assert page.sum(REQUESTS, status="ok") == page.sum(REQUESTS) == 3
    assert page.sum("app_ai_stream_chunks_total") == 3 * answers
    assert page.sum("app_ai_time_to_first_chunk_seconds_count") == 3 * answers
    assert page.sum("app_ai_stream_aborts_total") == 0


def test_a_worker_that_does_not_answer_every_message(measured):
    """Its turn ends when it begins the next; the last one ends well with the connection."""
    app = FastAPI()
    model = Scripted(answer=AIMessage("hi"))

    async def answer(websocket, text):
        await model.ainvoke(text)
        if text == "answer":
            await websocket.send_text(text)

    app.add_api_websocket_route("/ws", Sockets.by_a_queue(answer))
    with serving(app) as client:
        with socket_to(client, "/ws") as connection:
            for text in ("one", "two", "answer", "three"):
                connection.send(text)
                time.sleep(0.3)
            assert connection.recv(timeout=60) == "answer"
            eventually(lambda: measured.page().sum(REQUESTS, status="ok") == 3)
            assert measured.page().sum("app_ai_streams_active") == 1
            time.sleep(1)
        eventually(lambda: measured.page().sum(REQUESTS, status="ok") == 4)
    page = measured.page()
    assert page.sum(REQUESTS) == 4
    assert page.sum("app_ai_stream_chunks_total") == 1
    assert page.sum("app_ai_streams_active") == page.sum("app_ai_stream_aborts_total") == 0


def test_two_workers_of_one_connection_each_send_their_own_turns_message(measured):
    app = FastAPI()
    model = Scripted(answer=AIMessage("hi"))

    async def answer(websocket, text):
        await model.ainvoke(text)
        await asyncio.sleep(0.3)
        await websocket.send_text(text)

    app.add_api_websocket_route("/ws", Sockets.by_a_queue(answer, workers=2))
    with serving(app) as client, socket_to(client, "/ws") as connection:
        for text in ("one", "two"):
            connection.send(text)
            time.sleep(0.1)
        assert [connection.recv(timeout=60) for _ in range(2)] == ["one", "two"]
        eventually(lambda: measured.page().sum(REQUESTS, status="ok") == 2)
        eventually(lambda: measured.page().sum("app_ai_streams_active") == 0)
    page = measured.page()
    assert page.sum(REQUESTS) == page.sum("app_ai_time_to_first_chunk_seconds_count") == 2
    assert page.sum("app_ai_stream_aborts_total") == 0


def test_a_handler_that_reads_in_a_task_of_its_own_answers_in_one_turn(measured):
    """As with `asyncio.wait_for` until Python 3.12: it does not see the context of its message."""
    app = FastAPI()
    model = Scripted(answer=AIMessage("hi"))

    @app.websocket("/ws")
    async def reads_in_a_task(websocket: WebSocket):
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                text = await asyncio.create_task(websocket.receive_text())
                for part in ("plan", text):
                    await model.ainvoke(text)
                    await websocket.send_text(part)
                    await asyncio.sleep(0.3)

    with serving(app) as client, socket_to(client, "/ws") as connection:
        for text in ("one", "two"):
            connection.send(text)
            assert [connection.recv(timeout=60) for _ in range(2)] == ["plan", text]
            time.sleep(0.5)
            eventually(lambda: measured.page().sum("app_ai_streams_active") == 0)
    eventually(lambda: measured.page().sum(REQUESTS, status="ok") == 2)
    page = measured.page()
    assert page.sum(REQUESTS) == page.sum("app_ai_time_to_first_chunk_seconds_count") == 2
    assert page.sum("app_ai_stream_chunks_total") == 4
