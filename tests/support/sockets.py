"""An application with WebSockets of every shape, and a client that speaks to them."""

import asyncio
from contextlib import contextmanager, suppress

from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect, status
from fastapi.responses import PlainTextResponse
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from starlette.concurrency import run_in_threadpool
from websockets.sync.client import connect

WORDS = "four"
"""What the model says, character by character."""
SLOW = 0.05
"""Seconds between two characters of the slow model."""
HAS_DENIALS = hasattr(WebSocket, "send_denial_response")
"""Whether Starlette lets an application refuse a handshake by an answer of HTTP."""


def refused(websocket: WebSocket):
    raise HTTPException(status.HTTP_401_UNAUTHORIZED)


class SlowEmbedding(DeterministicFakeEmbedding):
    async def aembed_query(self, text):
        await asyncio.sleep(0.4)
        return self.embed_query(text)


class Sockets:
    """The application; `asked` has what its model was asked."""

    def __init__(self):
        self.app = FastAPI()
        self.quick = FakeListChatModel(responses=[WORDS])
        self.slow = FakeListChatModel(responses=[WORDS], sleep=SLOW)
        self.errors = []
        for path, answer in {
            "/ws/stream": self.stream,
            "/ws/invoke": self.invoke,
            "/ws/two-runs": self.two_runs,
            "/ws/thread": self.thread,
            "/ws/slow": self.slowly,
            "/ws/fails": self.fails,
            "/ws/echo": self.echo,
        }.items():
            self.app.add_api_websocket_route(path, self.one_after_another(answer))
        self.app.add_api_websocket_route("/ws/tasks", self.in_tasks)
        self.app.add_api_websocket_route("/ws/late", self.in_a_task_and_reads_late)
        self.app.add_api_websocket_route("/ws/queue", self.by_a_queue(self.stream))
        self.app.add_api_websocket_route("/ws/embeds", self.by_a_queue(self.streams_and_embeds))
        self.app.add_api_websocket_route("/ws/timeout", self.with_a_timeout)
        self.app.add_api_websocket_route("/ws/first", self.speaks_first)
        self.app.add_api_websocket_route("/ws/raises", self.raises)
        self.app.add_api_websocket_route("/ws/closed/{name}", self.closed)
        self.app.add_api_websocket_route("/ws/closes", self.closes)
        if HAS_DENIALS:
            self.app.add_api_websocket_route("/ws/limited", self.limited)
            self.app.add_api_websocket_route(
                "/ws/denied", self.one_after_another(self.echo), dependencies=[Depends(refused)]
            )
        self.app.get("/health", response_class=PlainTextResponse)(lambda: "ok")

    # What one message is answered with

    async def stream(self, websocket, text):
        async for chunk in self.quick.astream(text):
            await websocket.send_text(chunk.content)
        await websocket.send_text("end")

    async def slowly(self, websocket, text):
        async for chunk in self.slow.astream(text):
            await websocket.send_text(chunk.content)
        await websocket.send_text("end")

    async def invoke(self, websocket, text):
        await websocket.send_text((await self.quick.ainvoke(text)).content)

    async def two_runs(self, websocket, text):
        await self.quick.ainvoke("classify")
        await self.stream(websocket, text)

    async def streams_and_embeds(self, websocket, text):
        async for chunk in self.quick.astream(text):
            await websocket.send_text(chunk.content)
        await SlowEmbedding(size=4).aembed_query(text)
        await websocket.send_text("end")

    async def thread(self, websocket, text):
        answer = await run_in_threadpool(self.quick.invoke, text)
        await websocket.send_text(answer.content)

    async def fails(self, websocket, text):
        with suppress(IndexError, ValueError):
            await FakeListChatModel(responses=[]).ainvoke(text)
        await websocket.send_text("sorry")

    async def echo(self, websocket, text):
        await websocket.send_text(text)

    # How messages are received

    @staticmethod
    def one_after_another(answer):
        async def endpoint(websocket: WebSocket):
            await websocket.accept()
            with suppress(WebSocketDisconnect):
                while True:
                    await answer(websocket, await websocket.receive_text())

        return endpoint

    async def in_tasks(self, websocket: WebSocket):
        await websocket.accept()
        async with asyncio.TaskGroup() as tasks:
            with suppress(WebSocketDisconnect):
                while True:
                    tasks.create_task(self.slowly(websocket, await websocket.receive_text()))

    async def in_a_task_and_reads_late(self, websocket: WebSocket):
        await websocket.accept()
        text = await websocket.receive_text()
        has_answered, has_asked = asyncio.Event(), asyncio.Event()

        async def answer():
            await self.stream(websocket, text)
            has_answered.set()
            await has_asked.wait()
            await self.stream(websocket, text)

        answering = asyncio.create_task(answer())
        await has_answered.wait()
        asyncio.get_running_loop().call_later(SLOW, has_asked.set)
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()
        await answering

    @staticmethod
    def by_a_queue(answer, workers=1):
        async def endpoint(websocket: WebSocket):
            await websocket.accept()
            queue = asyncio.Queue()

            async def work():
                while True:
                    await answer(websocket, await queue.get())

            tasks = [asyncio.create_task(work()) for _ in range(workers)]
            with suppress(WebSocketDisconnect):
                while True:
                    await queue.put(await websocket.receive_text())
            for task in tasks:
                task.cancel()

        return endpoint

    async def with_a_timeout(self, websocket: WebSocket):
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                await self.stream(websocket, await asyncio.wait_for(websocket.receive_text(), 10))

    async def speaks_first(self, websocket: WebSocket):
        await websocket.accept()
        await self.stream(websocket, "greet")
        with suppress(WebSocketDisconnect):
            while True:
                await self.stream(websocket, await websocket.receive_text())

    async def raises(self, websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_text()
        async for chunk in self.quick.astream("x"):
            await websocket.send_text(chunk.content)
            message = "the application is broken"
            raise LookupError(message)

    async def closes(self, websocket: WebSocket):
        await websocket.accept()
        await self.invoke(websocket, await websocket.receive_text())
        await websocket.close(code=4001, reason="enough")

    # Refusals

    async def closed(self, websocket: WebSocket, name: str):
        await websocket.close(code=1008)

    async def limited(self, websocket: WebSocket):
        await websocket.send_denial_response(PlainTextResponse("slow down", 429))


@contextmanager
def socket_to(client, path, **options):
    """A client's connection to the application that `client` speaks to."""
    with connect(f"ws://{client.base_url.netloc.decode()}{path}", **options) as connection:
        yield connection


def turn(connection, text="hi"):
    """Sends a message; returns what comes until `end`, or the only answer."""
    connection.send(text)
    return rest_of_turn(connection)


def rest_of_turn(connection):
    received = []
    while not received or received[-1] not in {"end", WORDS, "sorry"}:
        received.append(connection.recv(timeout=60))
    return received
