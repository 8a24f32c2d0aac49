"""A look whether the client has left takes nothing from the application."""

import asyncio

import pytest
from fastapi import FastAPI, Request

from otel_coach.core.request_context import current_request
from otel_coach.settings import Settings
from otel_coach.testing import measuring


@pytest.mark.parametrize("stops", [False, True])
def test_a_route_that_waits_for_the_disconnect_gets_it(stops):
    """The server gives it once, as hypercorn does, at the moment in which a call ends."""
    app = FastAPI()
    got, sent = [], []
    messages = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    @app.get("/chat")
    async def chat(request: Request):
        await request.body()
        waiting = asyncio.create_task(request.receive())
        await asyncio.sleep(0)
        messages.put_nowait({"type": "http.disconnect"})
        current_request.get().look_for_client()
        got.append((await asyncio.wait_for(waiting, 10))["type"])
        return {}

    async def serve():
        async def receive():
            return await messages.get()

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/chat",
            "raw_path": b"/chat",
            "headers": [],
            "query_string": b"",
            "scheme": "http",
            "http_version": "1.1",
            "server": ("h", 1),
            "client": ("c", 1),
            "root_path": "",
        }
        await app(scope, receive, send)

    with measuring(Settings(stop_abandoned=stops)):
        asyncio.run(serve())
    assert got == ["http.disconnect"]
