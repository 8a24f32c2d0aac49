"""An application of many routes, each with a call of a model, and one whose answers never end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

GROUPS, IN_GROUP = 25, 40
"""1,000 routes, in groups: a router looks through all its routes one by one."""
_quick = FakeListChatModel(responses=["ok"])
_endless = FakeListChatModel(responses=["never"], sleep=100_000)


async def _ask(_: Request) -> PlainTextResponse:
    return PlainTextResponse(str((await _quick.ainvoke("hi")).content))


def path_of(number: int) -> str:
    """Returns the path of a route, from 0 to 999."""
    return f"/{number // IN_GROUP}/{number % IN_GROUP}"


app = FastAPI(
    routes=[
        Mount(f"/{group}", routes=[Route(f"/{number}", _ask) for number in range(IN_GROUP)])
        for group in range(GROUPS)
    ]
)


@app.get("/health")
async def health() -> str:
    """Answers immediately."""
    return "ok"


@app.get("/endless")
async def endless() -> StreamingResponse:
    """Streams a first part, and then waits for a model."""

    async def parts() -> AsyncIterator[str]:
        yield "begin\n"
        async for part in _endless.astream("hi"):
            yield str(part.content)

    return StreamingResponse(parts())
