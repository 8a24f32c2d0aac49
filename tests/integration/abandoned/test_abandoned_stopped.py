"""The work of a client who has left is stopped, whatever its shape."""

import asyncio
import gc

import pytest

from tests.support.abandoned_models import TOKENS, Notes
from tests.support.abandoned_work import (
    MIDDLEWARES,
    Caller,
    Work,
    answers,
    application,
    expect_one_aborted_request,
    streams,
)
from tests.support.serving import serving
from tests.support.versions import LANGGRAPH_LEAVES_ITS_QUEUE

STOPPED = "app_ai_stopped_runs_total"
HTTP = "http_server_request_duration_seconds_count"
NAMES = Work(Notes())
PATHS = [
    *(f"/streams/{name}" for name in streams(NAMES)),
    *(f"/answers/{name}" for name in answers(NAMES)),
    "/sse",
]
IN_FLIGHT = 5
"""Tokens that may be made before the server notices, for each of the calls that run then."""
BRANCHES = {
    "/streams/parallel": 3,
    "/answers/parallel": 3,
    "/streams/runnable-parallel": 2,
    "/answers/gather": 2,
    "/answers/group": 2,
}
RUNS = {"/answers/gather": 2, "/answers/group": 2}
"""Outermost runs that are open at a time, where it is more than one."""
MODELS = {
    *("model", "two", "chain", "runnable-parallel", "events-v1", "task-per-chunk", "in-steps"),
}
"""Shapes without a node of a graph."""


def raised_by_nodes(path):
    """What the nodes that are open note: each is cancelled once, and may clean up."""
    shape = path.rpartition("/")[2]
    if shape == "sync-nodes":
        return ["StoppedError"]
    without = shape in MODELS or (shape.startswith("lost") and shape != "lost-in-nodes")
    nodes = 0 if without else 3 if shape == "parallel" else 1
    return ["CancelledError"] * nodes + ["cleaned up"] * nodes


def ai_spans(measured):
    kinds = {"chat", "invoke_agent", "execute_tool"}
    return [span for span in measured.spans if span.name.partition(" ")[0] in kinds]


class SendsSlowly:
    """Puts a pause after each part that is sent, so that the client leaves while one is."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def slowly(message):
            await send(message)
            if message.get("body"):
                await asyncio.sleep(0.3)

        await self.app(scope, receive, slowly)


@pytest.mark.server
@pytest.mark.parametrize("middlewares", MIDDLEWARES)
@pytest.mark.parametrize("path", PATHS)
def test_no_more_is_made_than_was_in_flight(stopping, path, middlewares, capfd):
    notes = Notes(pause=0.04)
    app = application(Work(notes))
    for middleware in middlewares:
        app.add_middleware(middleware)
    with serving(app) as client:
        caller = Caller(client.base_url, notes)
        left = caller.leave(path)
        total = caller.rest()
    after = sum(made > left for made in notes.tokens)
    assert after <= IN_FLIGHT * BRANCHES.get(path, 1)
    assert total < TOKENS
    if not (LANGGRAPH_LEAVES_ITS_QUEUE and path == "/streams/events-v2"):
        assert notes.raised == raised_by_nodes(path)
    expect_one_aborted_request(stopping, path, RUNS.get(path, 1))
    statuses = {labels["status"] for labels, _ in stopping.page().samples(HTTP)}
    assert statuses == {"499" if path.startswith("/answers/") else "200"}  # docs/metrics.md
    spans = ai_spans(stopping)
    assert spans
    was_stopped = stopping.page().sum(STOPPED) > 0
    assert {bool(span.attributes.get("otel_coach.stopped")) for span in spans} == {was_stopped}
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.server
@pytest.mark.parametrize(
    "path",
    [
        f"/streams/{name}"
        for name in ("graph", "inner-graph", "from-a-queue", "task-per-chunk", "in-steps")
    ],
)
def test_a_stream_that_is_left_while_it_sends_ends_without_the_garbage_collector(stopping, path):
    notes = Notes(pause=0.04)
    app = application(Work(notes))
    app.add_middleware(SendsSlowly)
    gc.disable()
    try:
        with serving(app) as client:
            caller = Caller(client.base_url, notes)
            left = caller.leave(path)
            caller.rest()
    finally:
        gc.enable()
    assert sum(made > left for made in notes.tokens) <= IN_FLIGHT
    page = stopping.page()
    # Between two steps no thread works: Starlette drops the stream, and that ends it.
    assert page.sum(STOPPED, endpoint=path) == (not path.endswith("/in-steps"))
    assert page.sum("agent_llm_requests_total", status="aborted") > 0
