"""The mode of a response that is returned from a `labels` block, and streamed after it."""

from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from langchain_core.language_models import FakeListChatModel

import otel_coach
from tests.support.agents import CALLS

MODEL = FakeListChatModel(responses=["one two"])
AI = "app_ai_request_duration_seconds_count"


async def answer():
    async for chunk in MODEL.astream("hi"):
        yield chunk.content


def answer_of_a_thread():
    for chunk in MODEL.stream("hi"):
        yield chunk.content


def application():
    app = FastAPI()

    @app.get("/inside")
    async def inside():
        with otel_coach.labels(mode="planner"):
            return (await MODEL.ainvoke("hi")).content

    @app.get("/returned")
    async def returned():
        with otel_coach.labels(mode="planner"):
            return StreamingResponse(answer())

    @app.get("/returned-by-a-thread")
    def returned_by_a_thread():
        with otel_coach.labels(mode="planner"):
            return StreamingResponse(answer_of_a_thread())

    @app.get("/decorated")
    @otel_coach.labels(mode="planner")
    async def decorated():
        return StreamingResponse(answer())

    @app.get("/decorated-in-a-thread")
    @otel_coach.labels(mode="planner")
    def decorated_in_a_thread():
        return MODEL.invoke("hi").content

    @app.get("/generator")
    async def generator():
        return StreamingResponse(otel_coach.labels(mode="planner")(answer)())

    @otel_coach.labels(mode="planner")
    async def by_dependency():
        yield (await MODEL.ainvoke("hi")).content

    @app.get("/dependency")
    async def dependency(text: Annotated[str, Depends(by_dependency)]):
        return text

    return app


@pytest.mark.parametrize(
    "path",
    [
        "inside",
        "returned",
        "returned-by-a-thread",
        "decorated",
        "decorated-in-a-thread",
        "generator",
        "dependency",
    ],
)
def test_the_calls_of_a_response_have_the_mode_of_the_block_that_returned_it(measured, path):
    assert "one two" in TestClient(application()).get(path).text
    page = measured.page()
    (call,) = [labels["mode"] for labels, _ in page.samples(CALLS)]
    (request,) = [labels["mode"] for labels, _ in page.samples(AI)]
    assert (call, request) == ("planner", "planner")


def test_work_after_the_block_and_before_the_response_has_not_its_mode(measured):
    app = FastAPI()

    @app.get("/twice")
    async def twice(tasks: BackgroundTasks):
        with otel_coach.labels(mode="planner"):
            await MODEL.ainvoke("hi")
        tasks.add_task(MODEL.invoke, "later")
        return (await MODEL.ainvoke("hi")).content

    TestClient(app).get("/twice")
    modes = {labels["mode"]: value for labels, value in measured.page().samples(CALLS)}
    assert modes == {"planner": 2, "invoke": 1}


def test_the_next_request_of_a_connection_has_not_the_mode_of_the_last(measured):
    app = application()

    @app.get("/plain")
    async def plain():
        return StreamingResponse(answer())

    client = TestClient(app)
    client.get("/returned")
    client.get("/plain")
    modes = {labels["mode"] for labels, _ in measured.page().samples(CALLS)}
    assert modes == {"planner", "stream"}


def test_the_mode_that_a_stream_states_itself_precedes_that_of_a_block_before_it(measured):
    app = FastAPI()

    async def tokens():
        async for chunk in MODEL.astream("hi", {"metadata": {"mode": "coach"}}):
            yield chunk.content

    @app.get("/routed")
    async def routed():
        with otel_coach.labels(mode="router"):
            await MODEL.ainvoke("which?")
        return StreamingResponse(tokens())

    assert TestClient(app).get("/routed").status_code == 200
    page = measured.page()
    assert page.sum(CALLS, mode="router") == 1
    assert page.sum(CALLS, mode="coach") == 1
