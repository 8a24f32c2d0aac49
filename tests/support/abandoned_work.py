"""Work of many shapes that a client may leave."""

import asyncio
import operator
import time
from contextlib import contextmanager
from typing import Annotated, TypedDict

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus
from starlette.middleware.base import BaseHTTPMiddleware

from otel_coach import Settings
from otel_coach.testing import measuring
from tests.support.abandoned_models import TOKENS, Losing, Slow, losing
from tests.support.conservation import conserved
from tests.support.leaving import asked
from tests.support.serving import serving
from tests.support.waiting import eventually

try:
    from langgraph.func import entrypoint, task
except ImportError:  # before LangGraph 0.2.62
    entrypoint = task = None

STEPS = 3
"""Calls of a graph, one after the other."""
TOOL_STEPS = 40
STOPPED = "app_ai_stopped_runs_total"
ALL = STEPS * TOKENS
SOON = 25
"""Tokens that may be made until a busy machine notices the leaving: a quarter of a second."""


class PassesThrough(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


MIDDLEWARES = [
    pytest.param([], id="bare"),
    pytest.param([PassesThrough], id="middleware", marks=pytest.mark.long),
]
"""What stands around an application; a BaseHTTPMiddleware runs it in a task of its own."""


@contextmanager
def stopping_at_once(**more):
    """Measures with otel-coach stopping the work of those who have left; all that starts ends."""
    gateways = {"127.0.0.1": "openai"}
    settings = {"stop_abandoned": True, "stop_after": 0, "gateways": gateways, **more}
    with measuring(Settings(**settings)) as measured, conserved(measured):
        yield measured


class State(TypedDict):
    said: Annotated[list, operator.add]


class Work:
    """Graphs, chains and tools around one model."""

    def __init__(self, notes):
        self.notes = notes
        self.model = model = Slow(notes=notes)
        self.losing = Losing(notes=notes)
        self.losing_graph = self.compiled(self.losing_node)
        self.chain = model | RunnableLambda(lambda said: said)
        self.graph = self.compiled(self.node)
        self.sync_graph = self.compiled(self.sync_node)
        self.parallel = self.compiled(self.node, parallel=True)
        self.sync_parallel = self.compiled(self.sync_node, parallel=True)
        self.subgraph = self.compiled(self.graph, steps=1)
        self.around = self.compiled(self.asking_a_graph, steps=1)
        self.tool = self.slow_tool()
        self.tool_then_model = self.compiled(self.calling_a_tool, self.node)
        self.tool_beside_model = self.compiled(self.calling_a_tool, self.node, parallel=True)
        self.workflow = None if entrypoint is None else self.functional()

    def noted(self, error):
        self.notes.raised.append(type(error).__name__)

    async def node(self, state):
        return await self.noting(self.model.ainvoke("hi"))

    async def losing_node(self, state):
        async def read():
            async for _ in self.losing.astream("hi"):
                pass

        return await self.noting(read())

    async def noting(self, work):
        try:
            await work
        except BaseException as error:
            self.noted(error)
            # A clean-up that awaits, and is not disturbed.
            await asyncio.sleep(0.01)
            self.notes.raised.append("cleaned up")
            raise
        return {"said": [1]}

    def sync_node(self, state):
        try:
            self.model.invoke("hi")
        except BaseException as error:
            self.noted(error)
            raise
        return {"said": [1]}

    async def asking_a_graph(self, state):
        return await self.graph.ainvoke({"said": []})

    async def calling_a_tool(self, state):
        try:
            await self.tool.ainvoke({"to": "plan"})
        except BaseException as error:
            self.notes.raised.append(f"{type(error).__name__} of the tool")
            raise
        return {"said": [1]}

    def slow_tool(self):
        @tool
        async def write(to: str) -> str:
            """Writes something, slowly."""
            for _ in range(TOOL_STEPS):
                await asyncio.sleep(self.notes.pause)
                self.notes.tool += 1
            return "written"

        return write

    def functional(self):
        @task
        async def ask(question):
            await self.node({})
            return question

        @entrypoint()
        async def workflow(question):
            for _ in range(STEPS):
                await ask(question)
            return question

        return workflow

    @staticmethod
    def compiled(*nodes, steps=STEPS, parallel=False):
        nodes = nodes if len(nodes) > 1 else nodes * steps
        builder = StateGraph(State)
        names = [f"node{number}" for number in range(len(nodes))]
        for name, node in zip(names, nodes, strict=True):
            builder.add_node(name, node)
        if parallel:
            for name in names:
                builder.add_edge(START, name)
                builder.add_edge(name, END)
        else:
            for one, other in zip([START, *names], [*names, END], strict=True):
                builder.add_edge(one, other)
        return builder.compile()


EMPTY = {"said": []}


async def task_per_chunk(stream):
    async def step():
        return await anext(stream, None)

    while (part := await asyncio.create_task(step())) is not None:
        yield part


async def lost_by_the_reader(stream):
    while (part := await losing(anext(stream, None))) is not None:
        yield part


async def in_steps(stream):
    """Reads a synchronous stream in threads."""
    done = object()
    while (part := await asyncio.to_thread(next, stream, done)) is not done:
        yield part


def streams(work):
    """By name, what a route streams."""

    async def closing_itself():
        stream = work.graph.astream(EMPTY, stream_mode="messages")
        try:
            async for part in stream:
                yield part
        finally:
            await stream.aclose()

    async def from_a_queue():
        queue = asyncio.Queue()

        async def produce():
            async for part in work.graph.astream(EMPTY, stream_mode="messages"):
                await queue.put(part)
            await queue.put(None)

        producer = asyncio.create_task(produce())
        try:
            while (part := await queue.get()) is not None:
                yield part
        finally:
            producer.cancel()

    messages = {"stream_mode": "messages"}
    return {
        "model": lambda: work.model.astream("hi"),
        "graph": lambda: work.graph.astream(EMPTY, **messages),
        "closing-itself": closing_itself,
        "updates": lambda: work.graph.astream(EMPTY, stream_mode="updates"),
        "inner-graph": lambda: work.around.astream(EMPTY, subgraphs=True, **messages),
        "subgraph": lambda: work.subgraph.astream(EMPTY, subgraphs=True, **messages),
        "parallel": lambda: work.parallel.astream(EMPTY, **messages),
        "chain": lambda: work.chain.astream("hi"),
        "runnable-parallel": lambda: RunnableParallel(a=work.model, b=work.model).astream("hi"),
        "events-v1": lambda: work.chain.astream_events("hi", version="v1"),
        "events-v2": lambda: work.graph.astream_events(EMPTY, version="v2"),
        **({"workflow": lambda: work.workflow.astream("hi")} if work.workflow else {}),
        "from-a-queue": from_a_queue,
        "task-per-chunk": lambda: task_per_chunk(work.model.astream("hi")),
        "lost": lambda: work.losing.astream("hi"),
        "lost-in-a-task": lambda: task_per_chunk(work.losing.astream("hi")),
        "lost-in-nodes": lambda: work.losing_graph.astream(EMPTY, **messages),
        "lost-in-events-v1": lambda: work.losing.astream_events("hi", version="v1"),
        "lost-in-events-v2": lambda: work.losing.astream_events("hi", version="v2"),
        "lost-by-the-reader": lambda: lost_by_the_reader(work.model.astream("hi")),
        "in-steps": lambda: in_steps(work.model.stream("hi")),
        "sync-nodes": lambda: work.sync_graph.astream(EMPTY, **messages),
    }


def answers(work):
    """By name, what a route awaits before it answers with JSON."""

    async def two():
        await work.model.ainvoke("hi")
        await work.model.ainvoke("hi")

    async def a_group():
        async with asyncio.TaskGroup() as group:
            group.create_task(work.graph.ainvoke(EMPTY))
            group.create_task(work.model.ainvoke("hi"))

    return {
        "graph": lambda: work.graph.ainvoke(EMPTY),
        "model": lambda: work.model.ainvoke("hi"),
        "two": two,
        "gather": lambda: asyncio.gather(work.graph.ainvoke(EMPTY), work.model.ainvoke("hi")),
        "wait-for": lambda: asyncio.wait_for(work.graph.ainvoke(EMPTY), 60),
        "group": a_group,
        "parallel": lambda: work.parallel.ainvoke(EMPTY),
        **({"workflow": lambda: work.workflow.ainvoke("hi")} if work.workflow else {}),
    }


def application(work):
    """Has a route for each of them, and for what is in worker threads."""
    app = FastAPI()
    if hasattr(AppStatus, "should_exit_event"):
        AppStatus.should_exit_event = None  # sse-starlette 2 keeps that of an earlier event loop
    for name, stream in streams(work).items():
        app.get(f"/streams/{name}")(_streaming(stream))
    for name, answer in answers(work).items():
        app.get(f"/answers/{name}")(_answering(answer))

    @app.get("/sse")
    async def sse():
        async def events():
            async for _ in work.graph.astream(EMPTY, stream_mode="messages"):
                yield {"data": "x"}

        return EventSourceResponse(events())

    return app


def _streaming(stream):
    async def route():
        async def parts():
            async for _ in stream():
                yield "x\n"

        return StreamingResponse(parts())

    return route


def _answering(answer):
    async def route():
        await answer()
        return "done"

    return route


class Caller:
    """Sends a request, and leaves in the midst of it."""

    def __init__(self, url, notes):
        self._url = url
        self._notes = notes

    def leave(self, path, after=4):
        """Leaves once so much has been made; returns when."""
        with asked(self._url, path):
            eventually(lambda: len(self._notes.tokens) + self._notes.tool >= after)
        return time.monotonic()

    def rest(self):
        """Waits until nothing happens any more; returns how many tokens there are."""
        notes = self._notes
        # Stillness is counted in looks: on a busy machine these wait for their turn, as work does.
        looks = 100 * max(0.3, 10 * notes.pause)
        seen, still = None, 0
        while still < looks:
            time.sleep(0.01)
            now = len(notes.tokens), notes.tool, len(notes.raised)
            seen, still = now, still + 1 if now == seen else 0
        return seen[0]


def made(app, path, notes, after=4):
    """How many tokens are made in all, and after the client has left."""
    with serving(app) as client:
        caller = Caller(client.base_url, notes)
        left = caller.leave(path, after)
        total = caller.rest()
    return total, sum(token > left for token in notes.tokens)


def expect_one_aborted_request(measured, path, stopped_runs):
    """Nothing is an error; `stopped_runs` of its outermost runs were stopped."""
    page = measured.page()
    # Between two steps no thread works: then the stream ends because it is dropped.
    possible = {0, 1} if path == "/streams/in-steps" else {stopped_runs}
    assert page.sum(STOPPED, endpoint=path) in possible
    requests = "app_ai_request_duration_seconds_count"
    assert page.sum(requests, endpoint=path, status="aborted") == page.sum(requests) == 1
    assert page.sum("agent_llm_requests_total", status="error") == 0
    assert page.sum("otel_coach_errors_total") == 0
    for span in measured.spans:
        assert span.status.is_unset, span.name
