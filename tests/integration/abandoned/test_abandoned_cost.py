"""What LLM calls cost that ended after their client had left, by the application's own notes."""

import asyncio
import time

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph

from otel_coach.instrumentors.genai.run_recorder import RunRecorder
from otel_coach.testing import measuring
from tests.support.hooks import inject
from tests.support.leaving import asked
from tests.support.scripted_model import Scripted, counted
from tests.support.serving import serving
from tests.support.waiting import eventually

TOKENS, COST = "app_ai_abandoned_tokens_total", "app_ai_abandoned_cost_usd_total"
MTOK = 1_000_000
STEPS = 4
PAUSE = 0.15
"""Seconds that a call takes."""


def slow_model(notes, told):
    """A model that answers after a pause, and then takes a note."""

    class Slow(Scripted):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            await asyncio.sleep(PAUSE)
            notes.append(time.monotonic())
            return super()._generate(messages)

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            time.sleep(PAUSE)
            notes.append(time.monotonic())
            return super()._generate(messages)

    return Slow(answer=AIMessage("hi", usage_metadata=told))


def asking(notes):  # noqa: C901 - one function for each route
    """An application whose graph of several steps goes on, whatever its client does."""
    model = slow_model(notes, counted(1000, 100))

    async def step(state):
        await model.ainvoke("hi")
        return {"said": state.get("said", 0) + 1}

    builder = StateGraph(dict)
    names = [f"step{number}" for number in range(STEPS)]
    for name in names:
        builder.add_node(name, step)
    for one, other in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(one, other)
    graph = builder.compile()
    app = FastAPI()
    kept = []

    @app.get("/stream")
    async def stream():
        async def parts():
            async for update in graph.astream({}, stream_mode="updates"):
                yield f"{update}\n"

        return StreamingResponse(parts())

    @app.get("/beside")
    async def beside():
        async def parts():
            work = asyncio.create_task(graph.ainvoke({}))
            kept.append(work)
            while not work.done():
                yield "working\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    def ask_one_by_one():
        for _ in range(STEPS):
            model.invoke("hi")

    app.get("/thread")(ask_one_by_one)

    @app.get("/to-thread")
    async def to_thread():
        await asyncio.to_thread(ask_one_by_one)

    @app.get("/answer")
    async def answer():
        return await graph.ainvoke({})

    @app.post("/posted")
    async def posted(request: Request):
        await request.json()
        return await graph.ainvoke({})

    return app


def leave_after(url, path, calls, notes, body=b""):
    """Sends a request, and leaves in the middle of the call after so many; returns when.

    Not while that call starts: if it is cancelled then, handlers have been told of a call that
    the model never got.
    """
    with asked(url, path, body):
        eventually(lambda: len(notes) >= calls)
        time.sleep(PAUSE / 2)
    return time.monotonic()


@pytest.mark.server
def test_a_worker_that_the_request_of_a_client_who_left_has_started_costs_others_nothing(measured):
    notes, app = [], FastAPI()
    model = slow_model(notes, counted(1000, 100))
    queue = asyncio.Queue()
    workers = []

    async def work():
        while True:
            done = await queue.get()
            await model.ainvoke("hi")
            if not done.done():
                done.set_result(None)

    @app.get("/answer")
    async def answer():
        if not workers:
            workers.append(asyncio.create_task(work()))
        done = asyncio.get_running_loop().create_future()
        await queue.put(done)
        await done

    with serving(app) as client:
        with asked(client.base_url, "/answer"):
            eventually(lambda: workers)
            time.sleep(PAUSE / 2)
        eventually(lambda: len(notes) == 1)
        for _ in range(3):
            assert client.get("/answer").status_code == 200
        eventually(lambda: measured.page().sum("agent_llm_requests_total") == 4)
    assert measured.page().sum(TOKENS, endpoint="/answer") == 1100


@pytest.mark.server
@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((path, b"") for path in ("/stream", "/beside", "/answer", "/thread", "/to-thread")),
        ("/posted", b'{"q": 1}'),
    ],
)
def test_calls_that_end_after_the_client_left_are_counted_whole(measured, path, body):
    notes = []
    with serving(asking(notes)) as client:
        left = leave_after(client.base_url, path, 1, notes, body)
        # Whether the rest of the graph runs is its own matter: a stream's does not always.
        eventually(lambda: measured.page().sum("http_server_request_duration_seconds_count"))
        time.sleep(0.3)
        if path != "/stream":
            eventually(lambda: len(notes) == STEPS)
    after = sum(note > left for note in notes)
    page = measured.page()
    assert page.sum("agent_llm_requests_total", status="ok") == len(notes)
    labels = {"endpoint": path, "model": "gpt-5"}
    assert page.sum(TOKENS, **labels, mode="prompt") == 1000 * after
    assert page.sum(TOKENS, **labels, mode="completion") == 100 * after
    assert page.sum(COST, **labels) == pytest.approx(after * (1000 * 1.25 + 100 * 10) / MTOK)
    if path != "/stream":
        assert after == STEPS - 1
    assert page.sum(TOKENS) == 1100 * after


@pytest.mark.server
@pytest.mark.parametrize("path", ["/stream", "/answer"])
def test_a_request_that_is_read_to_its_end_costs_nothing_for_nobody(measured, path):
    notes = []
    with serving(asking(notes)) as client:
        client.get(path)
    page = measured.page()
    assert len(notes) == STEPS
    assert page.samples(COST, endpoint=path) == [({"endpoint": path, "model": "gpt-5"}, 0)]
    assert page.sum(TOKENS) == 0


@pytest.mark.server
def test_a_fault_where_the_end_of_a_threads_call_is_noted_changes_no_answer(monkeypatch):
    def failing(*_args):
        raise LookupError

    inject(monkeypatch, RunRecorder, "_end_in_loop", failing)
    notes = []
    with measuring() as measured, serving(asking(notes)) as client:
        assert client.get("/thread").status_code == 200
    assert len(notes) == STEPS
    assert measured.page().sum("otel_coach_errors_total", error_type="LookupError") == STEPS


@pytest.mark.server
def test_a_body_that_comes_slowly_is_the_applications_alone(measured):
    """While the application waits for the body, no call's end may read a part of it."""
    notes = []
    app = asking(notes)
    model = slow_model(notes, counted(1, 1))

    @app.post("/upload")
    async def upload(request: Request):
        async def work():
            for _ in range(4):
                await model.ainvoke("hi")

        task = asyncio.create_task(work())
        body = await request.body()
        await task
        return len(body)

    def slowly():
        for _ in range(10):
            yield b"x" * 1000
            time.sleep(0.05)

    with serving(app) as client:
        assert client.post("/upload", content=slowly()).text == "10000"
    assert measured.page().sum("agent_llm_requests_total") == 4
