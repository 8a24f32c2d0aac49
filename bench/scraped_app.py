"""An application whose workers have 2,000 series each, and which knows how late its loop is."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from opentelemetry import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_INSTRUMENTS, _SERIES = 4, 500
_TICK = 0.001
_latest = 0.0


async def _watch() -> None:
    global _latest  # noqa: PLW0603 - one process, one figure
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_TICK)
        _latest = max(_latest, time.perf_counter() - before - _TICK)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    meter = metrics.get_meter("bench")
    for number in range(_INSTRUMENTS):
        counter = meter.create_counter(f"bench.{number}")
        for series in range(_SERIES):
            counter.add(1, {"endpoint": f"/{series}"})
    watching = asyncio.create_task(_watch())
    yield
    watching.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> str:
    return "ok"


@app.get("/lateness")
async def lateness() -> dict[str, float]:
    """How late this worker's loop was at most since it was asked last, in seconds."""
    global _latest
    found, _latest = _latest, 0.0
    return {"worker": os.getpid(), "seconds": found}
