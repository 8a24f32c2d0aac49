"""Tries the parts of FastAPI, Starlette, asyncio and OpenTelemetry that `compatibility` lists."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.abc import InspectLoader
from types import CodeType
from typing import Any, Final

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator

from otel_coach.core.installed import is_installed

MARK: Final = "otel_coach.exchange"
"""Key in the scope of a request that is watched already, or must not be watched. Its value is True,
or the dictionary in which `RouterEntry` notes the path."""
FASTAPI_TELEMETRY: Final = "fastapi.telemetry"
"""Key in a scope that makes FastAPI's built-in telemetry ignore the request."""


def knows_propagators() -> bool:
    """Returns whether a composite propagator gives access to its parts."""
    part = W3CBaggagePropagator()
    return list(getattr(CompositePropagator([part]), "_propagators", ())) == [part]


def finds_frontends() -> bool:
    """Returns whether FastAPI's router can find routes of `app.frontend`, if that exists at all."""
    applications, routing = import_module("fastapi.applications"), import_module("fastapi.routing")
    return not hasattr(applications.FastAPI, "frontend") or callable(
        getattr(routing.APIRouter, "_match_low_priority", None)
    )


def handles_routes() -> bool:
    """Returns whether Starlette has the methods in which routes answer, and responses stream."""
    route = import_module("starlette.routing").Route
    response = import_module("starlette.responses").StreamingResponse
    return all(map(inspect.iscoroutinefunction, (route.handle, response.stream_response)))


def tells_what_tasks_await() -> bool:
    """Returns whether asyncio's tasks tell what they await, and its gatherings what they gather."""

    async def trial() -> bool:
        slept = asyncio.ensure_future(asyncio.sleep(60))
        gathered: Any = asyncio.gather(slept)
        await asyncio.sleep(0)
        found = getattr(slept, "_fut_waiter", None) is not None
        found = found and bool(getattr(slept, "_callbacks", None))
        found = found and slept in getattr(gathered, "_children", ())
        gathered.cancel()
        await asyncio.wait({slept})
        return found

    with ThreadPoolExecutor(1) as apart:  # an event loop may run in this thread
        return apart.submit(asyncio.run, trial()).result()


def silences_fastapi() -> bool:
    """Returns whether FastAPI's own telemetry, if there is any, looks for `FASTAPI_TELEMETRY`.

    A request to an application made for the trial would run telemetry while the host starts. So
    the compiled code of FastAPI's application is searched for the key. Its methods may be replaced
    already, and reading its source would keep half a megabyte in memory.
    """
    if not is_installed("fastapi.telemetry"):
        return True
    module = "fastapi.applications"
    loader = getattr(import_module(module).__spec__, "loader", None)
    return isinstance(loader, InspectLoader) and _has(loader.get_code(module), FASTAPI_TELEMETRY)


def _has(code: CodeType | None, constant: str) -> bool:
    """Returns whether `constant` is in `code`, or in a function or class that it defines."""
    constants = code.co_consts if code else ()
    return constant in constants or any(
        _has(inner, constant) for inner in constants if isinstance(inner, CodeType)
    )
