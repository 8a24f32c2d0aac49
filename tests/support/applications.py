"""Applications of routes and streams, and what is counted of them."""

import asyncio

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from langchain_core.language_models import FakeListChatModel
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

HTTP = "http_server_request_duration_seconds_count"
AI = "app_ai_request_duration_seconds_count"


def counted(measured, name=HTTP):
    """{(endpoint, method, status): count} of all requests."""
    return {
        (labels["endpoint"], labels["method"], labels["status"]): int(value)
        for labels, value in measured.page().samples(name)
    }


def application(tmp_path):
    app = FastAPI()
    router = APIRouter(prefix="/v1/coaching")
    inner = APIRouter(prefix="/athletes")

    @inner.get("/{athlete_id}/plans/{path:path}")
    def plans(athlete_id: int, path: str):
        return path

    @router.post("/chat")
    def chat():
        return "hi"

    router.include_router(inner)
    app.include_router(router)

    @app.get("/health")
    def health():
        return "ok"

    sub = FastAPI()

    @sub.get("/items/{item}")
    def item(item: str):
        return item

    app.mount("/sub", sub)
    tenant = Starlette(routes=[Route("/home", lambda _: PlainTextResponse("home"))])
    app.mount("/tenants/{tenant}", tenant)
    (tmp_path / "a.txt").write_text("a")
    app.mount("/static", StaticFiles(directory=tmp_path))
    return app


MODEL = FakeListChatModel(responses=["one two three"])


def ask():
    return MODEL.invoke("hi").content


def streaming_app():
    app = FastAPI()

    async def chunks(count, pause=0.0):
        ask()
        for number in range(count):
            yield f"chunk {number}\n"
            await asyncio.sleep(pause)

    @app.get("/stream/{count}")
    async def stream(count: int, pause: float = 0.0):
        return StreamingResponse(chunks(count, pause))

    @app.get("/plain")
    async def plain():
        return {"answer": await asyncio.to_thread(ask)}

    @app.get("/slow")
    async def slow():
        ask()
        await asyncio.sleep(0.5)
        return "late"

    @app.get("/breaks")
    async def breaks():
        async def broken():
            ask()
            yield "chunk"
            raise RuntimeError

        return StreamingResponse(broken())

    @app.get("/background")
    async def background():
        from starlette.background import BackgroundTask

        return Response("done", background=BackgroundTask(ask))

    return app
