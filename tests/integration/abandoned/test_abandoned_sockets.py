"""The work of a WebSocket's turn is stopped when the client leaves, and its handler cleans up."""

import asyncio
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient
from langchain_core.tools import Tool
from openai import AsyncOpenAI

import otel_coach
from otel_coach import Settings
from otel_coach.core import stop_rule
from otel_coach.instrumentors.genai.stopping_client_calls import StoppingClientCalls
from otel_coach.testing import ScriptedProvider, measuring
from tests.support.abandoned_models import TOKENS, Notes
from tests.support.abandoned_sockets import Sockets, endings, hang_up, leave
from tests.support.abandoned_work import (
    ALL,
    EMPTY,
    SOON,
    STOPPED,
    TOOL_STEPS,
    Caller,
    Work,
    expect_one_aborted_request,
)
from tests.support.hooks import STOPPING_SOCKETS, inject
from tests.support.serving import serving, serving_by_hypercorn
from tests.support.sockets import socket_to
from tests.support.versions import LANGGRAPH_LEAVES_ITS_QUEUE, WEBSOCKET_SERVERS
from tests.support.waiting import eventually

pytestmark = [pytest.mark.server]
if LANGGRAPH_LEAVES_ITS_QUEUE:
    warning = "ignore::pytest.PytestUnraisableExceptionWarning"
    pytestmark.append(pytest.mark.filterwarnings(warning))
PATHS = Sockets(Work(Notes())).paths
IN_FLIGHT = 5
"""Tokens that may be made before the server notices, for each of the calls that run then."""
BRANCHES = {"parallel": 3, "runnable-parallel": 2, "gather": 2, "group": 2}
RUNS = {"/answers/gather": 2, "/answers/group": 2, "/threads/model": 0}
"""Outermost runs that are stopped, where it is not one; the call that a thread makes is not."""
AT_ONCE = Settings(stop_abandoned=True, stop_after=0)


@pytest.fixture
def notes():
    return Notes(pause=0.04)


@pytest.fixture
def sockets(notes):
    yield Sockets(Work(notes))
    if LANGGRAPH_LEAVES_ITS_QUEUE:
        gc.collect()  # what Python says of it belongs to this test


def left(app, path, notes, **how):
    """Leaves; returns how many tokens are made in all, and after the client has left."""
    with serving(app) as client:
        leave(client, path, notes, **how)
        since = time.monotonic()
        total = Caller(client.base_url, notes).rest()
    return total, sum(token > since for token in notes.tokens)


@pytest.mark.parametrize("path", PATHS)
def test_no_more_is_made_than_was_in_flight_and_the_handler_cleans_up(
    stopping, sockets, notes, path, capfd
):
    total, after = left(sockets.app, path, notes)
    _, kind, shape = path.split("/")
    if kind == "threads":
        assert total == TOKENS  # of the call that ran
    else:
        assert after <= IN_FLIGHT * BRANCHES.get(shape, 1)
        assert total < TOKENS
    assert len(sockets.seen) == 1
    assert sockets.seen[0] in endings(path)
    assert "cleaned up" in notes.raised or shape not in {"graph", "workflow"} or kind == "threads"
    expect_one_aborted_request(stopping, path, RUNS.get(path, 1))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("server", WEBSOCKET_SERVERS)
@pytest.mark.parametrize("path", ["/streams/graph", "/answers/graph", "/tasks"])
def test_every_server_tells_of_the_leaving(stopping, sockets, notes, path, server, capfd):
    is_hypercorn = server == "hypercorn"
    served = serving_by_hypercorn(sockets.app) if is_hypercorn else serving(sockets.app, ws=server)
    with served as client:
        leave(client, path, notes)
        since = time.monotonic()
        Caller(client.base_url, notes).rest()
        assert sum(token > since for token in notes.tokens) <= IN_FLIGHT
        eventually(lambda: sockets.seen == ["WebSocketDisconnect"])
    assert "Traceback" not in capfd.readouterr().err


def test_turns_that_overlap_are_all_stopped(stopping, sockets, notes):
    with serving(sockets.app) as client:
        leave(client, "/tasks", notes, after=9, messages=3)
        since = time.monotonic()
        total = Caller(client.base_url, notes).rest()
        eventually(lambda: notes.raised.count("cleaned up") == 3)
    assert total < TOKENS
    assert sum(token > since for token in notes.tokens) <= 3 * IN_FLIGHT
    assert sockets.seen == ["WebSocketDisconnect"]
    assert stopping.page().sum(STOPPED) == 3


def test_a_later_turn_is_stopped_and_the_earlier_ones_are_not_counted(stopping, sockets, notes):
    notes.pause = 0.002
    with serving(sockets.app) as client:
        with socket_to(client, "/streams/model") as connection:
            for _ in range(2):
                connection.send("hi")
                while connection.recv(timeout=60) != "end":
                    pass
            notes.pause = 0.04
            connection.send("hi")
            assert connection.recv(timeout=60) == "x"
            hang_up(connection)
        Caller(client.base_url, notes).rest()
    assert 2 * TOKENS < len(notes.tokens) < 2 * TOKENS + SOON
    requests = "app_ai_request_duration_seconds_count"
    assert stopping.page().sum(requests, status="ok") == 2
    assert stopping.page().sum(requests, status="aborted") == 1
    assert stopping.page().sum(STOPPED) == 1


def test_work_that_the_handler_started_to_go_on_goes_on(stopping, sockets, notes):
    notes.pause = 0.01
    total, _ = left(sockets.app, "/beside", notes)
    assert ALL < total < ALL + TOKENS
    assert stopping.page().sum(STOPPED) == 1


def test_a_run_in_a_thread_that_ends_before_the_loop_goes_on_is_no_fault(stopping):
    app = FastAPI()
    run = Tool("upper", str.upper, "Returns capitals.").invoke

    @app.websocket("/chat")
    async def chat(websocket: WebSocket):
        await websocket.accept()
        text = await websocket.receive_text()
        with ThreadPoolExecutor(1) as pool:  # the event loop waits for it, and does nothing else
            await websocket.send_text(pool.submit(copy_context().run, run, text).result())
        await websocket.receive_text()

    with TestClient(app) as client, client.websocket_connect("/chat") as connection:
        connection.send_text("hi")
        assert connection.receive_text() == "HI"
        connection.send_text("the loop has gone on")
    assert not stopping.page().sum("otel_coach_errors_total")


def test_a_handlers_clean_up_may_ask_a_model(stopping, notes):
    work = Work(notes)
    app = FastAPI()
    said = []

    @app.websocket("/chat")
    async def chat(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
            await work.graph.ainvoke(EMPTY)
        except WebSocketDisconnect:
            notes.pause = 0.001
            said.append((await work.model.ainvoke("sum it up")).content)

    total, _ = left(app, "/chat", notes)
    assert said == ["w"]
    assert TOKENS < total < TOKENS + SOON


def test_a_tool_that_has_begun_ends(stopping, sockets, notes):
    notes.pause = 0.01
    total, _ = left(sockets.app, "/tool", notes)
    assert notes.tool == TOOL_STEPS
    assert total == 0
    assert sockets.seen == ["WebSocketDisconnect"]


@pytest.mark.parametrize("stopping", [{"stop_abandoned": {"/answers/graph"}}], indirect=True)
def test_only_the_endpoints_that_are_listed_are_stopped(stopping, sockets, notes):
    notes.pause = 0.002
    assert left(sockets.app, "/answers/model", notes)[0] == TOKENS
    notes.forget()
    notes.pause = 0.04
    assert left(sockets.app, "/answers/graph", notes)[1] <= IN_FLIGHT


def test_nothing_is_stopped_by_default(measured, sockets, notes):
    notes.pause = 0.002
    assert left(sockets.app, "/answers/graph", notes)[0] == ALL
    assert not measured.page().samples(STOPPED)


@pytest.fixture
def wanted(monkeypatch):
    """Takes back what the code of a test asks for."""
    monkeypatch.setattr(stop_rule.stopping_patches, "_is_applied", False)


def test_code_asks_for_it_around_a_handler(wanted, measured, notes):
    work = Work(notes)
    app = FastAPI()
    seen = []

    @app.websocket("/chat")
    @otel_coach.stop_abandoned(after=0)
    async def chat(websocket: WebSocket):
        await websocket.accept()
        try:
            while True:
                await websocket.receive_text()
                await work.graph.ainvoke(EMPTY)
        except WebSocketDisconnect:
            seen.append(True)

    assert left(app, "/chat", notes)[1] <= IN_FLIGHT
    assert seen
    assert measured.page().sum(STOPPED) == 1


def chat_by(client, seen, *, streams):
    """A handler that calls the openai package itself, three times a turn."""
    app = FastAPI()

    @app.websocket("/chat")
    async def chat(websocket: WebSocket):
        await websocket.accept()
        ask = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
        try:
            await websocket.receive_text()
            for _ in range(3):
                answer = await client.chat.completions.create(**ask, stream=streams)
                if streams:
                    async for _ in answer:
                        await websocket.send_text("x")
        except WebSocketDisconnect:
            seen.append("WebSocketDisconnect")
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    return app


def slow_provider(asked):
    """Answers each call after two seconds."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def answer():
        asked.append(True)
        await asyncio.sleep(2)

    return app


@contextmanager
def left_in_a_direct_stream(seen):
    """The provider, and what is measured, when a client has left such a stream."""
    with ScriptedProvider(" ".join(["word"] * 40), pace=0.02) as provider:
        client = AsyncOpenAI(base_url=provider.base_url, api_key="x", max_retries=0)
        app = chat_by(client, seen, streams=True)
        with measuring(AT_ONCE) as measured, serving(app) as http:
            with socket_to(http, "/chat") as connection:
                connection.send("hi")
                assert connection.recv(timeout=60) == "x"
                hang_up(connection)
            yield provider, measured


def test_a_direct_stream_of_a_providers_package_is_stopped():
    seen = []
    with left_in_a_direct_stream(seen) as (provider, measured):
        eventually(lambda: measured.page().sum(STOPPED) == 1)
        time.sleep(1)
        assert len(provider.calls) == 1
        assert seen == ["WebSocketDisconnect"]
        assert measured.page().sum("otel_coach_errors_total") == 0


@pytest.mark.parametrize("name", ["replacement_for", "replace_error_at_end"])
def test_a_fault_where_a_direct_stream_ends_leaves_the_cancellation(monkeypatch, name):
    seen = []

    def failing(*_args):
        raise LookupError

    inject(monkeypatch, StoppingClientCalls, name, failing)
    with left_in_a_direct_stream(seen) as (_, measured):
        eventually(lambda: seen)
        assert seen == ["CancelledError"]
        assert measured.page().sum("otel_coach_errors_total") > 0


def test_a_direct_call_of_a_providers_package_is_stopped():
    seen, asked = [], []
    with serving(slow_provider(asked)) as provider:
        client = AsyncOpenAI(base_url=f"{provider.base_url}/v1", api_key="x", max_retries=0)
        app = chat_by(client, seen, streams=False)
        with measuring(AT_ONCE) as measured, serving(app) as http:
            with socket_to(http, "/chat") as connection:
                connection.send("hi")
                eventually(lambda: asked)
            eventually(lambda: measured.page().sum(STOPPED) == 1)
            time.sleep(0.5)
        assert asked == [True]
    assert seen == ["WebSocketDisconnect"]
    assert measured.page().sum("otel_coach_errors_total") == 0


def messages(client, path):
    with socket_to(client, path) as connection:
        connection.send("hi")
        received = []
        while not received or received[-1] != "end":
            received.append(connection.recv(timeout=60))
    return received


@pytest.fixture(scope="module")
def unwatched():
    """What the client receives of an application that nobody watches."""
    with serving(Sockets(Work(Notes(pause=0.001))).app) as client:
        return messages(client, "/streams/graph")


@pytest.mark.parametrize(
    ("cls", "name"), STOPPING_SOCKETS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_fault_in_it_changes_no_answer(monkeypatch, sockets, notes, unwatched, cls, name):
    def failing(*_args, **_kwargs):
        raise LookupError

    inject(monkeypatch, cls, name, failing)
    notes.pause = 0.001
    with measuring(AT_ONCE), serving(sockets.app) as client:
        leave(client, "/streams/graph", notes)
        eventually(lambda: sockets.seen)
        assert messages(client, "/streams/graph") == unwatched


def test_a_hundred_sockets_that_are_left_leave_no_task(stopping, sockets, notes):
    notes.pause = 0.01
    tasks = []

    @sockets.app.get("/tasks-now")
    async def count():
        if LANGGRAPH_LEAVES_ITS_QUEUE:
            gc.collect()  # ends the tasks that wait for those queues
        tasks.append(len(asyncio.all_tasks()))

    with serving(sockets.app) as client:
        client.get("/tasks-now")
        for number in range(100):
            # In the midst of a call: one that is cancelled while it starts is none.
            made = len(notes.tokens)
            leave(client, ("/streams/graph", "/answers/graph")[number % 2], notes, after=made + 1)
        eventually(lambda: client.get("/tasks-now") and tasks[-1] <= tasks[0])
        assert len(sockets.seen) == 100
    page = stopping.page()
    assert page.sum("app_ai_streams_active") == 0
    assert page.sum("app_websockets_active") == 0
    assert page.sum("otel_coach_errors_total") == 0
