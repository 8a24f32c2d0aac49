"""Tries the parts of FastAPI and of OpenTelemetry's API that `compatibility` lists."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator

MARK: Final = "otel_coach.exchange"
"""In the scope of a request that is watched already, or must not be."""
FASTAPI_TELEMETRY: Final = "fastapi.telemetry"
"""FastAPI's built-in telemetry leaves a request alone whose scope has this key."""


def knows_propagators() -> bool:
    """Whether a composite propagator tells its parts."""
    part = W3CBaggagePropagator()
    return list(getattr(CompositePropagator([part]), "_propagators", ())) == [part]


def finds_frontends() -> bool:
    """Whether FastAPI's router finds what `app.frontend` adds, where it has that."""
    applications, routing = import_module("fastapi.applications"), import_module("fastapi.routing")
    return not hasattr(applications.FastAPI, "frontend") or callable(
        getattr(routing.APIRouter, "_match_low_priority", None)
    )


def silences_fastapi() -> bool:
    """Whether FastAPI's own telemetry looks for the key; there is nothing before it had telemetry.

    It is read in FastAPI's source: to send an application of one's own a request would run
    telemetry in the middle of the host's start.
    """
    if find_spec("fastapi.telemetry") is None:
        return True
    return f'"{FASTAPI_TELEMETRY}" in scope' in inspect.getsource(
        import_module("fastapi.applications")
    )
