"""WebSockets whose turns are the work of `abandoned_work`, and what their handlers see."""

import asyncio
import socket
import sys
from contextlib import suppress

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from langchain_core.prompts import ChatPromptTemplate
from websockets.sync.client import connect

from tests.support.abandoned_work import EMPTY, answers, streams
from tests.support.waiting import eventually

PROMPT = ChatPromptTemplate.from_template("{text}")
_WAITS_FOR_A_TASK = {
    *("/streams/from-a-queue", "/streams/task-per-chunk", "/streams/lost-in-a-task"),
    *("/answers/gather", "/answers/group"),
    *(() if sys.version_info >= (3, 12) else ("/answers/wait-for",)),
}
"""Where the handler awaits a task that runs the work, and not the work itself."""


def endings(path):
    """The errors of which one ends the handler: a stream's handler may send before it is told."""
    if path not in _WAITS_FOR_A_TASK:
        return {"WebSocketDisconnect"}
    return {"CancelledError"} | ({"WebSocketDisconnect"} if path.startswith("/streams") else set())


def threads(work):
    """By name, what a handler awaits that a thread does."""

    def two():
        work.model.invoke("hi")
        work.model.invoke("hi")

    def prepared():
        PROMPT.invoke({"text": "hi"})
        two()

    return {
        "prepared": lambda: asyncio.to_thread(prepared),
        "graph": lambda: run_in_threadpool(work.sync_graph.invoke, EMPTY),
        "model": lambda: run_in_threadpool(work.model.invoke, "hi"),
        "two": lambda: asyncio.to_thread(two),
    }


def prepared(work):
    """The same with a run before that is no AI work."""

    async def answer():
        await work.model.ainvoke(await PROMPT.ainvoke({"text": "hi"}))

    return answer


class Sockets:
    """Has a route for each shape of work; `seen` is what ended the handlers."""

    def __init__(self, work):
        self.app = FastAPI()
        self.work = work
        self.seen = []
        self.paths = []
        for name, stream in streams(work).items():
            self._add(f"/streams/{name}", self._streaming(stream))
        for name, answer in {**answers(work), "prepared": prepared(work)}.items():
            self._add(f"/answers/{name}", self._awaiting(answer))
        for name, answer in threads(work).items():
            self._add(f"/threads/{name}", self._awaiting(answer))
        self.app.get("/health")(lambda: "ok")
        self.app.add_api_websocket_route("/tasks", self.in_tasks)
        self.app.add_api_websocket_route("/beside", self.beside)
        self.app.add_api_websocket_route("/tool", self.handler(self._tool))

    def _add(self, path, answer):
        self.paths.append(path)
        self.app.add_api_websocket_route(path, self.handler(answer))

    @staticmethod
    def _streaming(stream):
        async def answer(websocket):
            async for _ in stream():
                await websocket.send_text("x")

        return answer

    @staticmethod
    def _awaiting(work):
        async def answer(_websocket):
            await work()

        return answer

    async def _tool(self, _websocket):
        await self.work.tool_then_model.ainvoke(EMPTY)

    def handler(self, answer):
        """A handler as the documentation of FastAPI has it: it cleans up at WebSocketDisconnect."""

        async def handle(websocket: WebSocket):
            await websocket.accept()
            try:
                while True:
                    await websocket.receive_text()
                    await answer(websocket)
                    await websocket.send_text("end")
            except WebSocketDisconnect:
                await asyncio.sleep(0.01)  # is not cancelled
                self.seen.append("WebSocketDisconnect")
            except BaseException as error:
                self.seen.append(type(error).__name__)
                raise

        return handle

    async def in_tasks(self, websocket: WebSocket):
        """Each message is answered in a task of its own, while the next one is received."""
        await websocket.accept()
        tasks = []

        async def answer():
            async for _ in self.work.graph.astream(EMPTY, stream_mode="messages"):
                await websocket.send_text("x")

        try:
            while True:
                await websocket.receive_text()
                tasks.append(asyncio.create_task(answer()))
        except WebSocketDisconnect:
            self.seen.append("WebSocketDisconnect")
        finally:
            with suppress(asyncio.CancelledError, WebSocketDisconnect):
                await asyncio.gather(*tasks)

    async def beside(self, websocket: WebSocket):
        """Starts work that is to go on, and answers."""
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()
            self.beside_task = asyncio.create_task(self.work.subgraph.ainvoke(EMPTY))
            await self._streaming(lambda: self.work.model.astream("hi"))(websocket)


def hang_up(connection):
    """Leaves without a word: some versions of the client close only when they have read all."""
    connection.socket.shutdown(socket.SHUT_RDWR)


def leave(client, path, notes, *, after=4, messages=1):
    """Sends messages, and leaves once so much has been made."""
    with connect(f"ws://{client.base_url.netloc.decode()}{path}") as connection:
        for _ in range(messages):
            connection.send("hi")
        eventually(lambda: len(notes.tokens) + notes.tool >= after)
        if not path.startswith("/answers"):
            hang_up(connection)
