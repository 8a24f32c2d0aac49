"""A service of streams and calls, and users of it, without a server."""

import asyncio

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel


def service():
    app = FastAPI()

    @app.get("/health")
    async def health():
        return "ok"

    @app.get("/stream/{chunks}")
    async def stream(chunks: int):
        model = FakeListChatModel(responses=["x" * chunks])

        async def said():
            async for chunk in model.astream("hi"):
                yield chunk.content

        return StreamingResponse(said())

    @app.get("/plain/{chunks}")
    async def plain(chunks: int):
        async def said():
            for _ in range(chunks):
                yield "x"

        return StreamingResponse(said())

    @app.get("/ask")
    async def ask():
        return FakeListChatModel(responses=["x"]).invoke("hi").content

    return app


def send(app, path, times=1):
    """`times` requests, one after the other, in this process and without a server."""

    async def send_them():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            for _ in range(times):
                assert (await client.get(path)).status_code == 200

    asyncio.run(send_them())
