"""By what the stopping of abandoned work is asked for, and that it costs nothing otherwise."""

import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

import otel_coach
from otel_coach import Settings
from otel_coach.core import stop_rule
from otel_coach.testing import ScriptedProvider, measuring
from tests.support.abandoned_models import Notes
from tests.support.abandoned_sockets import Sockets, leave
from tests.support.abandoned_work import (
    ALL,
    EMPTY,
    SOON,
    STEPS,
    STOPPED,
    Caller,
    Work,
    application,
    made,
)
from tests.support.hooks import STOPPING, inject
from tests.support.leaving import asked
from tests.support.serving import serving
from tests.support.waiting import eventually


@pytest.mark.server
def test_nothing_is_stopped_by_default(measured, work, notes):
    app = FastAPI()

    @app.get("/answer")
    async def answer():
        await work.graph.ainvoke(EMPTY)

    assert made(app, "/answer", notes)[0] == ALL
    assert not measured.page().samples(STOPPED)


@pytest.mark.server
def test_a_listed_endpoint_that_no_route_has_is_said(work, caplog):
    @asynccontextmanager
    async def lifespan(app):
        app.get("/late")(lambda: None)
        yield

    app = FastAPI(lifespan=lifespan)
    inner = FastAPI()
    app.get("/v1/answer/{number}")(lambda number: number)
    inner.get("/chat")(lambda: None)
    app.mount("/inner", inner)
    listed = {"/v1/answer/{number}", "/inner/chat", "/v1/answers/{number}", "/nowhere", "/late"}
    with measuring(Settings(stop_abandoned=listed)), serving(app) as client:
        client.get("/v1/answer/1")
    lines = [line for line in caplog.messages if "OTEL_COACH_STOP_ABANDONED" in line]
    assert len(lines) == 2
    assert "'/nowhere', but no route that is known so far has that template. Cure" in lines[0]
    assert "'/v1/answers/{number}'" in lines[1]
    assert "perhaps /v1/answer/{number} is meant" in lines[1]


def failing(*_args, **_kwargs):
    raise LookupError("injected")


@pytest.mark.server
@pytest.mark.parametrize(
    ("cls", "name"),
    STOPPING,
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


STOPPING_MODULES = {
    *("stopping", "stopping_exchange", "stopping_socket", "stopping_work", "server_messages"),
    *("awaiting", "stopping_client_calls", "stopping_managers", "late_patches"),
}


@pytest.mark.server
def test_nothing_of_it_is_on_the_path_by_default():
    """Not a function of it is called, whatever ends: answers, streams, sockets, direct calls."""
    notes = Notes(pause=0.005)
    called = set()

    def note(frame, event, _argument):
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("otel_coach."):
            called.add((name.rpartition(".")[2], frame.f_code.co_qualname))

    with ScriptedProvider(" ".join(["word"] * 40), pace=0.01) as provider, measuring() as measured:
        client = AsyncOpenAI(base_url=provider.base_url, api_key="x", max_retries=0)
        app = Sockets(Work(notes)).app
        app.mount("/http", application(Work(notes)))
        ask = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}

        @app.get("/direct")
        async def direct():
            async def parts():
                async for _ in await client.chat.completions.create(**ask, stream=True):
                    yield "x"

            return StreamingResponse(parts())

        threading.setprofile(note)
        try:
            with serving(app) as served:
                served.get("/http/answers/graph")
                served.get("/direct")
                for path in ("/http/streams/graph", "/http/answers/model", "/direct"):
                    with asked(served.base_url, path):
                        time.sleep(0.1)
                leave(served, "/streams/graph", notes, after=len(notes.tokens) + 3)  # a socket
                eventually(lambda: measured.page().sum("app_websockets_active") == 0)
        finally:
            threading.setprofile(None)
        requests = "app_ai_request_duration_seconds_count"
        eventually(lambda: measured.page().sum(requests, status="aborted") == 4)
    assert {"exchange", "websocket", "watched_stream"} <= {module for module, _ in called}
    assert not [one for one in called if one[0] in STOPPING_MODULES]


OFF = """
import sys
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
print(*(name.rpartition(".")[2] for name in sys.modules if name.startswith("otel_coach.")))
"""


def test_nothing_of_it_is_imported_by_default():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OFF], capture_output=True, text=True, check=False
    )
    imported = set(done.stdout.split())
    assert "stop_rule" in imported, done.stderr  # code may ask later
    assert not STOPPING_MODULES & imported


# By the application's own code


@pytest.fixture
def wanted(monkeypatch):
    """As in a process in which code asks for it."""
    monkeypatch.setattr(stop_rule.stopping_patches, "_is_applied", False)


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


def test_the_decorator_without_parentheses_says_so(wanted):
    with pytest.raises(TypeError, match=r"needs its parentheses: @stop_abandoned\(\)"):

        @otel_coach.stop_abandoned
        async def chat(): ...


@pytest.mark.parametrize("after", [-1, float("nan"), 1e9, "1", None])
def test_a_time_that_is_none_is_refused(wanted, after):
    with pytest.raises(ValueError, match="is no number of seconds up to 86400"):
        otel_coach.stop_abandoned(after=after)
