"""What is not cut when the work of a client who has left is stopped, and what is in threads."""

import asyncio
import subprocess
import sys
import threading

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

import otel_coach
from otel_coach import Settings
from otel_coach.core import stopping as stopping_module
from otel_coach.instrumentors.asgi.awaiting import AnsweringTasks
from otel_coach.instrumentors.asgi.stopping_exchange import StoppingExchange
from otel_coach.testing import ScriptedProvider, measuring
from tests.support.abandoned_work import (
    EMPTY,
    MIDDLEWARES,
    STEPS,
    TOKENS,
    TOOL_STEPS,
    Caller,
    Notes,
    Work,
    stopping_at_once,
)
from tests.support.hooks import HOOKS, inject
from tests.support.serving import serving
from tests.support.waiting import eventually

STOPPED = "app_ai_stopped_runs_total"
ALL = STEPS * TOKENS
SOON = 25
"""Tokens that may be made until a busy machine notices the leaving: a quarter of a second."""


@pytest.fixture
def notes():
    return Notes(pause=0.01)


@pytest.fixture
def work(notes):
    return Work(notes)


@pytest.fixture(params=[{}], ids=["default"])
def stopping(request):
    with stopping_at_once(**request.param) as measured:
        yield measured


def made(app, path, notes, after=4):
    """How many tokens are made in all, and after the client has left."""
    with serving(app) as client:
        caller = Caller(client.base_url, notes)
        left = caller.leave(path, after)
        total = caller.rest()
    return total, sum(token > left for token in notes.tokens)


# What is left alone


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
@pytest.mark.parametrize("how", ["task", "task of a thread", "thread"])
def test_work_that_was_started_to_go_on_goes_on(stopping, work, notes, how):
    """It is nobody's answer: the route does not await it."""
    app = FastAPI()
    kept = []

    @app.get("/answer")
    async def answer():
        if how == "thread":
            thread = threading.Thread(target=work.sync_graph.invoke, args=(EMPTY,))
            thread.start()
        else:
            detached = (
                work.graph.ainvoke(EMPTY)
                if how == "task"
                else asyncio.to_thread(work.sync_graph.invoke, EMPTY)
            )
            kept.append(asyncio.create_task(detached))
        await asyncio.sleep(0.5)
        return "x"

    total, _ = made(app, "/answer", notes)
    assert total == ALL
    assert stopping.page().sum(STOPPED) == 0


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


@pytest.mark.server
def test_a_tool_that_has_begun_ends_and_no_call_follows(stopping, work, notes):
    app = FastAPI()

    @app.get("/tool")
    async def answer():
        await work.tool_then_model.ainvoke(EMPTY)

    assert made(app, "/tool", notes) == (0, 0)
    assert notes.tool == TOOL_STEPS
    # The node that follows may have begun; it was cancelled, and asked no model.
    assert notes.raised in ([], ["CancelledError", "cleaned up"])
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


@pytest.mark.server
def test_nothing_is_stopped_by_default(measured, work, notes):
    app = FastAPI()

    @app.get("/answer")
    async def answer():
        await work.graph.ainvoke(EMPTY)

    assert made(app, "/answer", notes)[0] == ALL
    assert not measured.page().samples(STOPPED)


def failing(*_args, **_kwargs):
    raise LookupError("injected")


@pytest.mark.server
@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls, name in HOOKS if cls in {AnsweringTasks, StoppingExchange}],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_fault_in_it_changes_no_answer(monkeypatch, notes, cls, name):
    inject(monkeypatch, cls, name, failing)
    app = FastAPI()
    work = Work(notes)
    notes.pause = 0.001

    @app.get("/answer")
    async def answer():
        return (await work.graph.ainvoke(EMPTY))["said"]

    @app.get("/stream")
    async def stream():
        async def parts():
            async for _ in work.graph.astream(EMPTY, stream_mode="updates"):
                yield "x"

        return StreamingResponse(parts())

    settings = Settings(stop_abandoned=True, stop_after=0)
    with measuring(settings), serving(app) as client:
        for path in ("/answer", "/stream"):
            Caller(client.base_url, notes).leave(path)
            notes.forget()
            notes.pause = 0.001
        assert client.get("/answer").json() == [1] * STEPS
        assert client.get("/stream").text == "x" * STEPS


OFF = """
import asyncio, sys
from fastapi import FastAPI
from fastapi.testclient import TestClient
from langchain_core.language_models import FakeListChatModel
import otel_coach

app = FastAPI()

@app.get("/")
async def route():
    return (await FakeListChatModel(responses=["hi"]).ainvoke("hi")).content

otel_coach.instrument(app)
assert TestClient(app).get("/").json() == "hi"
print([name for name in sys.modules if name.startswith("otel_coach") and (
    name.rpartition(".")[2] in {"stopping_exchange", "server_messages", "awaiting", "refusals"})])
"""


def test_nothing_of_it_is_on_the_path_by_default():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OFF], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


# By the application's own code


@pytest.fixture
def wanted(monkeypatch):
    """As in a process in which code asks for it."""
    monkeypatch.setattr(stopping_module.wishes, "_is_wanted", False)


@pytest.mark.server
@pytest.mark.parametrize("how", ["decorator", "block", "generator"])
def test_code_asks_for_it_where_no_variable_does(wanted, measured, work, notes, how):
    app = FastAPI()
    stop = otel_coach.stop_abandoned(after=0)

    async def answer():
        if how == "block":
            with stop:
                await work.graph.ainvoke(EMPTY)
        elif how == "generator":

            @stop
            async def parts():
                async for _ in work.graph.astream(EMPTY, stream_mode="messages"):
                    yield "x"

            return StreamingResponse(parts())
        else:
            await work.graph.ainvoke(EMPTY)
        return "x"

    @app.get("/other")
    async def other():
        await work.graph.ainvoke(EMPTY)

    app.get("/answer")(stop(answer) if how == "decorator" else answer)
    assert made(app, "/answer", notes)[1] <= SOON
    notes.forget()
    notes.pause = 0.01
    assert made(app, "/other", notes)[0] == ALL
    assert measured.page().sum(STOPPED) == 1


@pytest.mark.parametrize("after", [-1, float("nan"), 1e9])
def test_a_time_that_is_none_is_refused(wanted, after):
    with pytest.raises(ValueError, match="is not between 0 and 86400 seconds"):
        otel_coach.stop_abandoned(after=after)


# In worker threads, which cannot be cancelled


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
