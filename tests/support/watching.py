"""An application, and otel-coach in front of it without a server."""

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

from fastapi import FastAPI, Security
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict

from otel_coach.instrumentors import ASGI
from otel_coach.instrumentors.asgi.middleware import Middleware
from otel_coach.settings import Settings, effective
from otel_coach.setup.arguments import ARGUMENTS
from otel_coach.setup.installation import Installation
from otel_coach.testing import Page

OPENMETRICS = "application/openmetrics-text"


async def echo(scope, receive, send):
    """Answers with all that it sees of the request."""
    seen = [scope["method"], scope["path"], scope["root_path"], repr(scope["query_string"])]
    seen.append(repr(scope["headers"]))
    more = True
    while more:
        message = await receive()
        seen.append(repr(message))
        more = message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-\xff", b"\x00")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


def application():
    app = FastAPI()
    app.mount("/echo", echo)

    @app.get("/items/{item}")
    def items(
        item: int,
        key=Security(APIKeyQuery(name="key")),
        tenant=Security(APIKeyHeader(name="X-Tenant")),
        session=Security(APIKeyCookie(name="session")),
    ):
        return item

    @app.get("/pages/{number:int}")
    def pages(number):
        return "a page"

    @app.get("/stream")
    async def stream():
        async def pieces():
            yield "one"
            yield "two"

        return StreamingResponse(pieces())

    @app.api_route("/broken", methods=["GET", "POST"])
    async def broken():
        raise ZeroDivisionError

    @app.get("/limited")
    async def limited():
        return PlainTextResponse("slow down", 429)

    return app


APPLICATION = application()


@contextmanager
def watching():
    """A layer around the application, and what it leaves."""
    exporter = InMemorySpanExporter()
    alone = replace(effective(Settings(excluded_urls="excluded"), {}), shares_figures=False)
    installation = Installation(alone, span_processors=[SimpleSpanProcessor(exporter)])
    layer = Middleware(**ARGUMENTS[ASGI](installation))
    try:
        yield SimpleNamespace(
            layer=layer,
            page=installation.page,
            local_metrics=installation.local_metrics,
            exporter=exporter,
        )
    finally:
        installation.uninstrument()


def shown(page):
    """What both parsers read of the page."""
    list(strict(page.render(OPENMETRICS)[0].decode()))
    return Page(page.render("")[0].decode())
