"""An application whose workers have, from the start, one label set for each of its routes."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROUTES: Final = int(os.environ.get("BENCH_ROUTES", "1000"))
_model: Final = FakeListChatModel(responses=["well"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Requests each route once, so that each worker has all label sets."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://bench") as client:
        for number in range(_ROUTES):
            await client.get(f"/route/{number}")
    yield


app = FastAPI(lifespan=lifespan)


async def ask() -> str:
    return str((await _model.ainvoke("how are you")).content)


for _number in range(_ROUTES):
    app.get(f"/route/{_number}")(ask)


@app.get("/health")
async def health() -> str:
    return "ok"
