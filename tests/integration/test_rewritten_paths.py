"""Middlewares that rewrite the path before the router gets it: the endpoint is what answers."""

from contextlib import suppress

import pytest
from fastapi import FastAPI, HTTPException, Security, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyQuery
from starlette.middleware.gzip import GZipMiddleware
from websockets.exceptions import InvalidStatus

from otel_coach.testing import measuring
from tests.support.applications import application, counted
from tests.support.serving import serving
from tests.support.sockets import socket_to


def routes(app):
    @app.get("/bar/{x}")
    async def bar(x):
        return x

    @app.get("/private")
    async def private(key: str | None = Security(APIKeyQuery(name="key", auto_error=False))):
        raise HTTPException(401)

    @app.websocket("/ws/{x}")
    async def ws(websocket: WebSocket, x: str):
        await websocket.accept()
        await websocket.close()

    return app


def by_the_recipe(app):
    """As answers on the web show it; the scope is the one that the server gave."""

    @app.middleware("http")
    async def strip(request, call_next):
        if request.url.path.startswith("/api/"):
            request.scope["path"] = request.scope["path"].removeprefix("/api")
        return await call_next(request)


def by_a_copy(change):
    class Rewriting:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] in {"http", "websocket"}:
                scope = {**scope, **change(scope)}
            await self.app(scope, receive, send)

    return lambda app: app.add_middleware(Rewriting)


def mounted(scope):
    """As a proxy would have it, that tells the application where it is mounted."""
    if not scope["path"].startswith("/tenant"):
        return {}
    return {"root_path": "/tenant"}


def restored(app):
    """A middleware that puts the path back before the answer goes on."""

    @app.middleware("http")
    async def strip(request, call_next):
        before = request.scope["path"]
        request.scope["path"] = before.removeprefix("/api")
        answer = await call_next(request)
        request.scope["path"] = before
        return answer


WAYS = {
    "the recipe": (by_the_recipe, "/api{}"),
    "restored": (restored, "/api{}"),
    "a language": (by_a_copy(lambda scope: {"path": scope["path"].removeprefix("/de")}), "/de{}"),
    "a root path": (by_a_copy(mounted), "/tenant{}"),
    "lower case": (by_a_copy(lambda scope: {"path": scope["path"].lower()}), None),
    "no slash": (by_a_copy(lambda scope: {"path": scope["path"].rstrip("/")}), "{}/"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_rewritten_path_has_the_endpoint_of_the_route_that_answers(measured, way):
    rewrite, asked = WAYS[way]
    app = routes(FastAPI())
    rewrite(app)

    def path(wanted):
        return wanted.upper() if asked is None else asked.format(wanted)

    with serving(app) as client:
        assert client.get(path("/bar/1")).text == '"1"'
        assert client.get(path("/private") + "?key=wrong").status_code == 401
        assert client.post(path("/bar/1")).status_code == 405
        assert client.get(path("/nothing")).status_code == 404
    assert counted(measured) == {
        ("/bar/{x}", "GET", "200"): 1,
        ("/private", "GET", "401"): 1,
        ("/bar/{x}", "_OTHER", "405"): 1,
        ("unmatched", "GET", "404"): 1,
    }
    failures = measured.page().samples("auth_failures_total")
    labels = {"endpoint": "/private", "method": "GET", "status": "401", "error_type": "rejected"}
    assert failures == [(labels, 1)]


def test_an_endpoint_that_the_path_had_before_is_not_the_one_that_answers(measured):
    app = routes(FastAPI())
    by_the_recipe(app)

    @app.get("/api/{anything:path}")
    async def everything(anything):
        return "never"

    with serving(app) as client:
        assert client.get("/api/bar/1").text == '"1"'
    assert counted(measured) == {("/bar/{x}", "GET", "200"): 1}


def test_a_middleware_that_answers_itself_has_the_endpoint_of_the_path_that_was_asked(measured):
    app = routes(FastAPI())

    @app.middleware("http")
    async def refuse(request, call_next):
        return PlainTextResponse("no", 401)

    with serving(app) as client:
        assert client.get("/bar/1").status_code == 401
        assert client.get("/nothing").status_code == 401
    assert set(counted(measured)) == {("/bar/{x}", "GET", "401"), ("unmatched", "GET", "401")}


def test_a_websocket_whose_path_is_rewritten(measured):
    app = routes(FastAPI())
    by_a_copy(lambda scope: {"path": scope["path"].removeprefix("/de")})(app)
    with serving(app) as client, suppress(InvalidStatus), socket_to(client, "/de/ws/7"):
        pass
    assert measured.page().samples("app_websockets_active") == [({"endpoint": "/ws/{x}"}, 0)]


def test_mounts_and_a_root_path_are_as_without_a_middleware(measured, tmp_path):
    app = application(tmp_path)
    by_a_copy(lambda scope: {"path": scope["path"].lower()})(app)
    with serving(app, root_path="/proxy") as client:
        for path in ("/sub/items/9", "/tenants/ACME/home", "/static/a.txt", "/Sub/nothing"):
            client.get(path)
    assert set(counted(measured)) == {
        ("/sub/items/{item}", "GET", "200"),
        ("/tenants/{tenant}/home", "GET", "200"),
        ("/static/{path}", "GET", "200"),
        ("/sub/{path}", "GET", "404"),
    }


def test_a_router_is_left_as_it_was():
    app, usual = routes(FastAPI()), FastAPI()
    by_the_recipe(app)
    usual.add_middleware(GZipMiddleware)
    before = app.router.middleware_stack, usual.router.middleware_stack
    with measuring():
        for one in (app, usual):
            with serving(one) as client:
                client.get("/api/bar/1")
        assert app.router.middleware_stack != before[0]
        assert usual.router.middleware_stack == before[1]
    assert (app.router.middleware_stack, usual.router.middleware_stack) == before
