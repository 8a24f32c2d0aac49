"""A thread of a graph whose work was stopped can be resumed: what is saved is whole."""

import asyncio
import operator
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, TypedDict

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langgraph.graph import END, START, StateGraph

from otel_coach import Settings
from otel_coach.testing import measuring
from tests.support.abandoned_models import Notes, Slow
from tests.support.leaving import asked
from tests.support.programs import postgres
from tests.support.serving import serving

sqlite = pytest.importorskip("langgraph.checkpoint.sqlite.aio", reason="`make test` has it")
postgresql = pytest.importorskip("langgraph.checkpoint.postgres.aio", reason="`make test` has it")

STEPS = 6


class State(TypedDict):
    done: Annotated[list[int], operator.add]


@pytest.fixture(params=["sqlite", "postgresql"])
def saver(request, tmp_path):
    """Makes a checkpointer, in the event loop of the caller; all have one database."""
    with maybe_postgres(request.param) as url:

        @asynccontextmanager
        async def open_saver():
            if request.param == "sqlite":
                path = str(tmp_path / "threads.db")
                async with sqlite.AsyncSqliteSaver.from_conn_string(path) as found:
                    yield found
            else:
                async with postgresql.AsyncPostgresSaver.from_conn_string(url) as found:
                    await found.setup()
                    yield found

        yield open_saver


@contextmanager
def maybe_postgres(name):
    if name == "sqlite":
        yield ""
    else:
        with postgres() as url:
            yield url


def graph(notes, checkpointer):
    model = Slow(notes=notes)
    builder = StateGraph(State)

    def step(number):
        async def node(state):
            await model.ainvoke("hi")
            return {"done": [number]}

        return node

    names = [f"step{number}" for number in range(STEPS)]
    for number, name in enumerate(names):
        builder.add_node(name, step(number))
    for one, other in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(one, other)
    return builder.compile(checkpointer=checkpointer)


def application(notes, open_saver):
    app = FastAPI()

    @asynccontextmanager
    async def lifespan(_):
        async with open_saver() as checkpointer:
            app.state.graph = graph(notes, checkpointer)
            yield

    app.router.lifespan_context = lifespan

    @app.get("/stream/{thread}")
    async def stream(thread: str):
        async def parts():
            config = {"configurable": {"thread_id": thread}}
            async for _ in app.state.graph.astream({"done": []}, config, stream_mode="updates"):
                yield "x\n"

        return StreamingResponse(parts())

    return app


async def resumed(open_saver, thread):
    """What the thread had done, and what it has when it is resumed."""
    async with open_saver() as checkpointer:
        compiled = graph(Notes(pause=0), checkpointer)
        config = {"configurable": {"thread_id": thread}}
        state = await compiled.aget_state(config)
        # Without a new input, a thread goes on where it was.
        await compiled.ainvoke(None if state.created_at else {"done": []}, config)
        return state.values.get("done", []), (await compiled.aget_state(config)).values["done"]


@pytest.mark.long
@pytest.mark.server
@pytest.mark.parametrize("is_on", [True, False])
def test_a_thread_that_was_stopped_can_be_resumed(saver, is_on):
    """At many moments, so that the client also leaves while a checkpoint is written."""
    notes = Notes(pause=0.0005)
    settings = Settings(stop_abandoned=is_on, stop_after=0)
    threads = [f"thread-{number}" for number in range(24)]
    with measuring(settings) as measured:
        with serving(application(notes, saver)) as client:

            def leave(thread, seconds):
                with asked(client.base_url, f"/stream/{thread}"):
                    time.sleep(seconds)

            crowd = [
                threading.Thread(target=leave, args=(thread, 0.03 + 0.017 * number))
                for number, thread in enumerate(threads)
            ]
            for one in crowd:
                one.start()
            for one in crowd:
                one.join()
            time.sleep(1)
        stopped = measured.page().sum("app_ai_stopped_runs_total")
        assert measured.page().sum("otel_coach_errors_total") == 0
    assert bool(stopped) == is_on

    async def all_threads():
        return [await resumed(saver, thread) for thread in threads]

    for before, after in asyncio.run(all_threads()):
        assert before == [*range(len(before))]
        assert after == [*range(STEPS)]
