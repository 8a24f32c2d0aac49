"""WebSockets whose messages are answered by a task of their own."""

import asyncio
import time
from contextlib import suppress

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from langchain_core.messages import AIMessage

from tests.support.scripted_model import Scripted
from tests.support.serving import serving
from tests.support.sockets import socket_to
from tests.support.waiting import eventually

REQUESTS = "app_ai_request_duration_seconds_count"


def test_a_worker_that_takes_messages_from_a_queue_makes_a_turn_of_each(measured):
    app = FastAPI()
    model = Scripted(answer=AIMessage("hi"))

    @app.websocket("/ws")
    async def socket(websocket: WebSocket):
        await websocket.accept()
        messages = asyncio.Queue()

        async def work():
            while (text := await messages.get()) != "stop":
                await asyncio.sleep(0.1)
                await model.ainvoke(text)
                await websocket.send_text(text)

        worker = asyncio.create_task(work())
        with suppress(WebSocketDisconnect):
            while True:
                await messages.put(await websocket.receive_text())
        await messages.put("stop")
        await worker

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
