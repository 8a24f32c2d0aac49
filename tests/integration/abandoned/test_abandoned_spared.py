"""What is not cut when the work of a client who has left is stopped."""

import asyncio
import threading

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langgraph.graph import StateGraph
from openai import AsyncOpenAI

from otel_coach.testing import ScriptedProvider
from tests.support.abandoned_models import TOKENS
from tests.support.abandoned_work import (
    ALL,
    EMPTY,
    SOON,
    STEPS,
    STOPPED,
    TOOL_STEPS,
    Caller,
    made,
    stopping_at_once,
)
from tests.support.serving import serving
from tests.support.waiting import eventually


@pytest.mark.server
def test_background_tasks_run_to_their_end(stopping, work, notes):
    app = FastAPI()

    @app.get("/stream")
    async def stream():
        async def parts():
            async for _ in work.model.astream("hi"):
                yield "x"

        tasks = BackgroundTasks()
        tasks.add_task(work.graph.ainvoke, EMPTY)
        tasks.add_task(work.sync_graph.invoke, EMPTY)
        return StreamingResponse(parts(), background=tasks)

    total, after = made(app, "/stream", notes)
    assert 2 * ALL <= after <= 2 * ALL + SOON
    assert total < 2 * ALL + TOKENS
    assert stopping.page().sum(STOPPED) == 1


@pytest.mark.server
def test_background_tasks_of_an_answer_run_though_the_client_has_left_them(stopping, work, notes):
    app = FastAPI()

    @app.get("/answer")
    async def answer(background: BackgroundTasks):
        background.add_task(work.graph.ainvoke, EMPTY)
        return "x"

    assert made(app, "/answer", notes) == (ALL, pytest.approx(ALL, abs=SOON))
    assert stopping.page().sum(STOPPED) == 0


@pytest.mark.server
@pytest.mark.parametrize("how", ["task", "v1", "v2", "task of a thread", "thread"])
def test_work_that_was_started_to_go_on_goes_on(stopping, work, notes, how):
    """It is nobody's answer: the route does not await it."""
    app = FastAPI()
    kept = []

    async def events():
        async for _ in work.graph.astream_events(EMPTY, version=how):
            pass

    @app.get("/answer")
    async def answer():
        if how == "thread":
            thread = threading.Thread(target=work.sync_graph.invoke, args=(EMPTY,))
            thread.start()
        else:
            detached = {
                "task": lambda: work.graph.ainvoke(EMPTY),
                "v1": events,
                "v2": events,
                "task of a thread": lambda: asyncio.to_thread(work.sync_graph.invoke, EMPTY),
            }
            kept.append(asyncio.create_task(detached[how]()))
        await asyncio.sleep(0.5)
        return "x"

    total, _ = made(app, "/answer", notes)
    assert total == ALL
    assert stopping.page().sum(STOPPED) == 0


@pytest.mark.server
def test_a_task_that_a_tool_started_to_go_on_goes_on_though_a_thread_had_the_first_run(
    stopping, work, notes
):
    app = FastAPI()
    kept, said = [], []
    model = FakeListChatModel(responses=["kept"])

    async def remember():
        await asyncio.sleep(0.6)  # by then, the client has left, and the run around it has ended
        said.append((await model.ainvoke("hi")).content)

    async def node(_state):
        kept.append(asyncio.create_task(remember()))
        await asyncio.sleep(0.3)
        return {}

    graph = StateGraph(dict).add_node("node", node).set_entry_point("node").compile()

    @app.get("/answer")
    async def answer():
        await asyncio.to_thread(model.invoke, "hi")
        await graph.ainvoke({})
        await work.graph.ainvoke(EMPTY)

    made(app, "/answer", notes)
    eventually(lambda: said == ["kept"])


@pytest.mark.server
def test_other_requests_that_share_the_graph_are_not_touched(stopping, work, notes):
    app = FastAPI()

    @app.get("/{name}")
    async def answer(name: str):
        return (await work.graph.ainvoke(EMPTY))["said"]

    with serving(app) as client:
        answers = []
        others = [
            threading.Thread(target=lambda: answers.append(client.get("/stays").json()))
            for _ in range(3)
        ]
        for other in others:
            other.start()
        Caller(client.base_url, notes).leave("/leaves", after=20)
        for other in others:
            other.join()
    assert answers == [[1] * STEPS] * 3
    page = stopping.page()
    assert page.sum(STOPPED) == 1
    assert page.sum("app_ai_request_duration_seconds_count", status="ok") == 3


SHARING = {
    "await": lambda task: task,
    "gather": lambda task: asyncio.gather(task, asyncio.sleep(0)),
    "wait_for": lambda task: asyncio.wait_for(task, 60),
    "shield": asyncio.shield,
    "wait": lambda task: asyncio.wait({task}),
    "a task between": lambda task: asyncio.create_task(later(task)),
}
"""How requests await a task that one of them has started."""


async def later(task):
    return await task


@pytest.mark.server
@pytest.mark.parametrize(
    ("first", "second"),
    [
        *((first, "await") for first in SHARING),
        *(("await", second) for second in ("gather", "wait_for", "shield")),
        *((both, both) for both in ("gather", "wait_for")),
    ],
)
def test_a_task_that_another_request_awaits_too_goes_on(stopping, work, notes, first, second):
    app = FastAPI()
    flights = []

    @app.get("/{name}")
    async def answer(name: str):
        if not flights:
            flights.append(asyncio.create_task(work.graph.ainvoke(EMPTY)))
        await SHARING[first if name == "leaves" else second](flights[0])
        return flights[0].result()["said"]

    with serving(app) as client:
        answers = []

        def stays():
            eventually(lambda: flights)
            answers.append(client.get("/stays").json())

        other = threading.Thread(target=stays)
        other.start()
        Caller(client.base_url, notes).leave("/leaves", after=20)
        other.join()
    assert answers == [[1] * STEPS]


@pytest.mark.server
@pytest.mark.parametrize("first", ["await", "gather", "wait_for", "a task between"])
def test_a_task_of_one_request_alone_is_stopped(stopping, work, notes, first):
    app = FastAPI()

    @app.get("/answer")
    async def answer():
        await SHARING[first](asyncio.create_task(work.graph.ainvoke(EMPTY)))

    total, _ = made(app, "/answer", notes)
    assert total < ALL
    assert stopping.page().sum(STOPPED) == 1


@pytest.mark.server
def test_a_tool_that_has_begun_ends_and_no_call_follows(stopping, work, notes):
    app = FastAPI()

    @app.get("/tool")
    async def answer():
        await work.tool_then_model.ainvoke(EMPTY)

    assert made(app, "/tool", notes) == (0, 0)
    assert notes.tool == TOOL_STEPS
    # The tool has ended, but LangChain may not have returned yet. The node that follows may have
    # begun; it was cancelled, and asked no model.
    possible = [], ["CancelledError of the tool"], ["CancelledError", "cleaned up"]
    eventually(lambda: notes.raised in possible)
    page = stopping.page()
    assert page.sum("agent_tool_calls_total", status="ok") == 1
    assert page.sum("agent_llm_requests_total") == 0
    assert page.sum(STOPPED) == 1


@pytest.mark.server
def test_a_tool_ends_though_a_call_beside_it_begins_meanwhile(stopping, work, notes):
    app = FastAPI()

    async def after_a_while(state):
        while notes.tool < TOOL_STEPS - 4:  # noqa: ASYNC110 - notes have no event
            await asyncio.sleep(notes.pause)
        return await work.node(state)

    beside = work.compiled(work.calling_a_tool, after_a_while, parallel=True)

    @app.get("/tool")
    async def answer():
        await beside.ainvoke(EMPTY)

    assert made(app, "/tool", notes, after=2) == (0, 0)
    assert notes.tool == TOOL_STEPS
    assert stopping.page().sum("agent_tool_calls_total", status="ok") == 1


@pytest.mark.server
def test_a_tool_ends_though_a_provider_is_called_beside_it_meanwhile(work, notes):
    app = FastAPI()
    with ScriptedProvider("hi") as provider, stopping_at_once(gateways=provider.gateways) as page:
        client = AsyncOpenAI(base_url=provider.base_url, api_key="x", max_retries=0)

        async def after_a_while(state):
            while notes.tool < TOOL_STEPS - 4:  # noqa: ASYNC110 - notes have no event
                await asyncio.sleep(notes.pause)
            await client.chat.completions.create(model="gpt-5", messages=[])

        beside = work.compiled(work.calling_a_tool, after_a_while, parallel=True)

        @app.get("/tool")
        async def answer():
            await beside.ainvoke(EMPTY)

        made(app, "/tool", notes, after=2)
        assert not provider.calls
        assert page.page().sum("agent_tool_calls_total", status="ok") == 1
    assert notes.tool == TOOL_STEPS


@pytest.mark.server
@pytest.mark.parametrize("stopping", [{"stop_tools": True}], indirect=True)
def test_tools_are_stopped_where_the_operator_says_so(stopping, work, notes):
    app = FastAPI()

    @app.get("/tool")
    async def answer():
        await work.tool_beside_model.ainvoke(EMPTY)

    _, after = made(app, "/tool", notes)
    assert after <= SOON
    assert notes.tool < TOOL_STEPS
    assert stopping.page().sum("agent_tool_calls_total", status="aborted") == 1


@pytest.mark.server
@pytest.mark.parametrize("stopping", [{"stop_after": 0.6}], indirect=True)
def test_an_answer_that_is_complete_within_the_grace_is_complete(stopping, work, notes):
    app = FastAPI()
    done = []

    @app.get("/answer")
    async def answer():
        await work.model.ainvoke("hi")
        done.append(True)

    with serving(app) as client:
        Caller(client.base_url, notes).leave("/answer", after=TOKENS - 10)
        eventually(lambda: done)
    assert len(notes.tokens) == TOKENS
    assert stopping.page().sum(STOPPED) == 0


@pytest.mark.server
@pytest.mark.parametrize("stopping", [{"stop_abandoned": {"/stopped"}}], indirect=True)
def test_only_the_endpoints_that_are_listed_are_stopped(stopping, work, notes):
    app = FastAPI()

    @app.get("/stopped")
    @app.get("/other")
    async def answer():
        await work.graph.ainvoke(EMPTY)

    assert made(app, "/stopped", notes)[1] <= SOON
    notes.forget()
    notes.pause = 0.01
    assert made(app, "/other", notes)[0] == ALL
    assert stopping.page().sum(STOPPED) == 1
