"""What happens between a request's messages: scrapes, disconnects, middlewares that rewrite."""

import asyncio
import contextvars
from concurrent.futures import Future

import httpx
import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient
from langchain_core.language_models import FakeListChatModel
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode

import otel_coach
from otel_coach.instrumentors.asgi.server_messages import ServerMessages
from otel_coach.settings import Settings
from otel_coach.testing import measuring

AI_REQUESTS = "app_ai_request_duration_seconds_count"
HTTP = "http_server_request_duration_seconds_count"


def asking(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


def test_a_scrape_does_not_fix_the_route_of_a_request_whose_path_is_rewritten_later(measured):
    app = FastAPI()
    app.get("/v1/chat")(lambda: "ok")

    async def main():
        go_on, waiting = asyncio.Event(), asyncio.Event()

        @app.middleware("http")
        async def rewrite(request, call_next):
            waiting.set()
            await go_on.wait()
            request.scope["path"] = "/v1/chat"
            return await call_next(request)

        async with asking(app) as client:
            asked = asyncio.create_task(client.get("/tenant/a"))
            await waiting.wait()
            measured.page()
            go_on.set()
            assert (await asked).status_code == 200

    asyncio.run(main())
    assert measured.page().samples(HTTP)[0][0]["endpoint"] == "/v1/chat"


async def played(app, messages):
    """The application with a WebSocket whose client has sent these messages, and left."""

    async def receive():
        return messages.pop(0)

    async def send(_message):
        await asyncio.sleep(0)

    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}
    await app({**scope, "root_path": "", "scheme": "ws", "subprotocols": []}, receive, send)


def test_a_turn_whose_message_was_read_together_with_the_disconnect_is_abandoned(measured):
    app = FastAPI()
    model = FakeListChatModel(responses=["a", "b"])

    @app.websocket("/ws")
    async def chat(websocket: WebSocket):
        await websocket.accept()
        try:
            while True:
                answer = await model.ainvoke(await websocket.receive_text())
                await websocket.send_text(answer.content)
        except WebSocketDisconnect:
            pass

    messages = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "one"},
        {"type": "websocket.receive", "text": "two"},
        {"type": "websocket.disconnect", "code": 1001},
    ]
    asyncio.run(played(app, messages))
    assert measured.page().sum(AI_REQUESTS, status="aborted") == 2


@pytest.mark.parametrize("how", ["it returns", "accepting fails"])
def test_a_client_that_leaves_during_the_handshake_is_no_error(measured, how):
    app = FastAPI()

    @app.websocket("/ws")
    async def chat(websocket: WebSocket):
        if how == "it returns":
            assert (await websocket.receive())["type"] == "websocket.connect"
            assert (await websocket.receive())["type"] == "websocket.disconnect"
            return
        await websocket.accept()

    async def main():
        messages = [
            {"type": "websocket.connect"},
            {"type": "websocket.disconnect", "code": 1001},
        ]

        async def receive():
            return messages.pop(0)

        async def send(_message):
            raise OSError

        scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}
        scope |= {"root_path": "", "scheme": "ws", "subprotocols": []}
        try:
            await app(scope, receive, send)
        except (OSError, WebSocketDisconnect):
            assert how == "accepting fails"

    asyncio.run(main())
    (span,) = measured.spans
    assert span.kind is SpanKind.SERVER
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["otel_coach.outcome"] == "aborted"
    assert "http.response.status_code" not in span.attributes
    assert "error.type" not in span.attributes


def test_a_mounted_applications_own_span_does_not_take_the_place_of_the_server_span():
    app, mounted = FastAPI(), FastAPI()
    mounted.get("/items/{name}")(lambda name: name)
    app.mount("/sub", mounted)
    with measuring(Settings(server_spans="fastapi")) as measured:
        measured.installation.contrib.load_fastapi(app)
        measured.installation.contrib.load_fastapi(mounted)
        # In a context of its own: other tests may have left something in this one's.
        assert contextvars.Context().run(TestClient(app).get, "/sub/items/3").json() == "3"
        (span,) = [span for span in measured.spans if span.kind is SpanKind.SERVER]
    assert span.name == "GET /sub/items/{name}"


def test_without_a_propagator_a_request_is_the_root_of_a_trace(measured):
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([]))
    around = trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 1, is_remote=False)))
    token = otel_context.attach(around)
    try:
        app = FastAPI()
        app.get("/x")(lambda: "ok")
        asyncio.run(_ask(app))
    finally:
        otel_context.detach(token)
        propagate.set_global_textmap(before)
    (span,) = measured.spans
    assert span.parent is None


async def _ask(app):
    async with asking(app) as client:
        assert (await client.get("/x", headers={"traceparent": "none"})).status_code == 200


def test_who_waits_for_a_message_is_woken_by_a_task_that_ends_before_it_begins():
    async def main():
        async def receive():
            await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        messages = ServerMessages(receive, lambda _message: None)
        messages.watch()
        messages.close()
        async with asyncio.timeout(60):
            assert (await messages.next())["type"] == "http.disconnect"

    asyncio.run(main())


@pytest.mark.parametrize(("failure", "status"), [(None, "ok"), (ConnectionError(), "error")])
def test_a_check_that_returns_a_future_is_over_when_that_is(measured, failure, status):
    found = Future()

    @otel_coach.watch_dependency("cache")
    def check():
        return found

    assert check() is found
    assert measured.page().sum("dependency_latency_seconds_count") == 0
    if failure is None:
        found.set_result(True)
    else:
        found.set_exception(failure)
    page = measured.page()
    assert page.sum("dependency_latency_seconds_count", status=status) == 1
    assert page.sum("dependency_up") == (failure is None)
