"""Tries the parts of FastAPI and of OpenTelemetry's API that `compatibility` lists."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import INVALID_SPAN, NoOpTracer, Span, Tracer, TracerProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Whether FastAPI's own telemetry minds the key; there is nothing before it had telemetry.

    Sends an application two requests for a route that it has not, without a server.
    """
    if find_spec("fastapi.telemetry") is None:
        return True
    spans = [_Spans(), _Spans()]
    _send(spans[0], {})
    _send(spans[1], {FASTAPI_TELEMETRY: None})
    return [one.started for one in spans] == [1, 0]


def _send(spans: _Spans, more: Mapping[str, object]) -> None:
    telemetry = {"tracer_provider": spans, "auto_configure": False, "metrics": False}
    application = import_module("fastapi.applications").FastAPI(
        telemetry=telemetry, openapi_url=None
    )
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "query_string": b"",
        "headers": [],
        MARK: True,
        **more,
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: object) -> None: ...

    answering = application(scope, receive, send)
    with suppress(StopIteration):
        while True:  # it waits for nothing, so that it needs no event loop
            answering.send(None)


class _Spans(TracerProvider):
    """Counts the spans that are started."""

    def __init__(self) -> None:
        self.started = 0

    def get_tracer(self, *_: object, **__: object) -> Tracer:
        return _Counting(self)


class _Counting(NoOpTracer):
    def __init__(self, spans: _Spans) -> None:
        self._spans = spans

    def start_span(self, *_: object, **__: object) -> Span:
        self._spans.started += 1
        return INVALID_SPAN
