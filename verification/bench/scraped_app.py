"""An application whose workers have 2,000 series each."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from opentelemetry import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_INSTRUMENTS, _SERIES = 4, 500


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    meter = metrics.get_meter("bench")
    for number in range(_INSTRUMENTS):
        counter = meter.create_counter(f"bench.{number}")
        for series in range(_SERIES):
            counter.add(1, {"endpoint": f"/{series}"})
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> str:
    return "ok"
