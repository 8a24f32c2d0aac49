"""Endpoints: what a request is counted as, through a real uvicorn over real sockets."""

from contextlib import asynccontextmanager

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.support.applications import application, counted
from tests.support.serving import serving

# Endpoints


def with_one_router_in_two_places():
    app, router = FastAPI(), APIRouter()

    @router.get("/plan/{week}")
    def plan(week: int):
        return week

    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    return app, router


def test_a_router_in_two_places_has_two_endpoints(measured):
    app, _ = with_one_router_in_two_places()
    with serving(app) as client:
        for prefix in ("/v1", "/v2", "/v2"):
            client.get(f"{prefix}/plan/7")
    assert counted(measured) == {
        ("/v1/plan/{week}", "GET", "200"): 1,
        ("/v2/plan/{week}", "GET", "200"): 2,
    }


def test_routes_that_are_added_while_it_serves_have_their_own_endpoint(measured):
    app, router = FastAPI(), APIRouter()

    @router.get("/plan/{week}")
    def plan(week: int):
        return week

    app.include_router(router, prefix="/v1")
    with serving(app) as client:
        client.get("/v1/plan/7")
        app.include_router(router, prefix="/v2")
        app.add_api_route("/late", lambda: "late")
        for path in ("/v1/plan/7", "/v2/plan/7", "/late"):
            assert client.get(path).is_success
    assert counted(measured) == {
        ("/v1/plan/{week}", "GET", "200"): 2,
        ("/v2/plan/{week}", "GET", "200"): 1,
        ("/late", "GET", "200"): 1,
    }


def test_a_mounted_application_behind_a_copied_scope_keeps_its_endpoints(measured):
    sub = FastAPI()

    @sub.get("/items/{item}")
    def item(item: str):
        return item

    class Copying:
        def __init__(self, app):
            self.app = app
            self.routes = app.routes

        async def __call__(self, scope, receive, send):
            await self.app(dict(scope), receive, send)

    app = FastAPI()
    app.mount("/sub", Copying(sub))
    with serving(app) as client:
        assert client.get("/sub/items/7").is_success
    assert counted(measured) == {("/sub/items/{item}", "GET", "200"): 1}


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "status"),
    [
        ("GET", "/health", "/health", 200),
        ("POST", "/v1/coaching/chat", "/v1/coaching/chat", 200),
        (
            "GET",
            "/v1/coaching/athletes/7/plans/a/b/c",
            "/v1/coaching/athletes/{athlete_id}/plans/{path}",
            200,
        ),
        (
            "GET",
            "/v1/coaching/athletes/seven/plans/a",
            "/v1/coaching/athletes/{athlete_id}/plans/{path}",
            422,
        ),
        ("GET", "/v1/coaching/chat", "/v1/coaching/chat", 405),
        ("BREW", "/health", "/health", 405),
        ("GET", "/sub/items/9", "/sub/items/{item}", 200),
        ("GET", "/sub/nothing", "/sub/{path}", 404),
        ("GET", "/tenants/acme/home", "/tenants/{tenant}/home", 200),
        ("GET", "/tenants/acme/nothing", "/tenants/{tenant}/{path}", 404),
        ("GET", "/static/a.txt", "/static/{path}", 200),
        ("GET", "/static/no.txt", "/static/{path}", 404),
        ("GET", "/wp-admin.php", "unmatched", 404),
        ("GET", "/docs", "/docs", 200),
        ("HEAD", "/static/a.txt", "/static/{path}", 200),
    ],
)
def test_the_endpoint_is_the_template_with_prefix_and_mount(
    measured, tmp_path, method, path, endpoint, status
):
    # httptools, which uvicorn takes where it is installed, refuses verbs that it does not know.
    with serving(application(tmp_path), http="h11") as client:
        assert client.request(method, path).status_code == status
    known = "_OTHER" if status == 405 else method
    assert counted(measured) == {(endpoint, known, str(status)): 1}


def test_a_mounted_path_prefix_of_a_proxy_is_no_part_of_the_endpoint(measured, tmp_path):
    with serving(application(tmp_path), root_path="/behind/a/proxy") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/sub/items/9").status_code == 200
        assert client.get("/metrics").status_code == 200
    assert set(counted(measured)) == {
        ("/health", "GET", "200"),
        ("/sub/items/{item}", "GET", "200"),
    }


def test_starlette_alone_is_measured_too(measured):
    app = Starlette(
        routes=[
            Route("/a/{b}", lambda _: PlainTextResponse("a")),
            Mount("/m", routes=[Route("/x", lambda _: PlainTextResponse("x"))]),
        ]
    )
    with serving(app) as client:
        assert client.get("/a/1").text == "a"
        assert client.get("/m/x").text == "x"
    assert counted(measured) == {("/a/{b}", "GET", "200"): 1, ("/m/x", "GET", "200"): 1}


def test_an_exception_is_a_500_and_reaches_the_server_as_before(measured):
    app = FastAPI()

    @app.get("/broken")
    def broken():
        raise ZeroDivisionError

    with serving(app) as client:
        assert client.get("/broken").text == "Internal Server Error"
    assert counted(measured) == {("/broken", "GET", "500"): 1}
    (span,) = measured.spans
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == "500"
    assert not span.events


def test_websockets_and_lifespan_pass(measured):
    seen = []

    @asynccontextmanager
    async def lifespan(_):
        seen.append("up")
        yield
        seen.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/ws")
    async def socket_(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    with serving(app) as client:
        from websockets.sync.client import connect

        with connect(f"ws://{client.base_url.netloc.decode()}/ws") as connection:
            connection.send("echo")
            assert connection.recv() == "echo"
    assert seen == ["up", "down"]
    assert counted(measured) == {}
    assert [span.name for span in measured.spans] == ["GET /ws"]


def test_fastapis_own_root_path_is_no_part_of_the_endpoint(measured, tmp_path):
    app = application(tmp_path)
    app.root_path = "/api"
    with serving(app) as client:
        assert client.get("/api/health").status_code == 200
        assert client.get("/api/sub/items/9").status_code == 200
        assert client.get("/api/metrics").status_code == 200
    found = set(counted(measured))
    assert found == {("/health", "GET", "200"), ("/sub/items/{item}", "GET", "200")}


def test_a_frontend_is_its_path_and_what_is_below(measured, tmp_path):
    app = FastAPI()
    if not hasattr(app, "frontend"):
        pytest.skip("this FastAPI has no frontend routes")
    (tmp_path / "index.html").write_text("<p>hi</p>")
    app.frontend("/ui", directory=tmp_path)
    with serving(app) as client:
        assert client.get("/ui/").status_code == 200
    assert set(counted(measured)) == {("/ui/{path}", "GET", "200")}


class HeadersFromAGenerator:
    """As ASGI allows: any iterable."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def with_generator(message):
            if message["type"] == "http.response.start":
                pairs = [*message["headers"], (b"x-mine", b"1")]
                message = {**message, "headers": (pair for pair in pairs)}
            await send(message)

        await self.app(scope, receive, with_generator)


def test_headers_that_can_be_read_only_once_reach_the_client(measured, tmp_path):
    app = application(tmp_path)
    app.add_middleware(HeadersFromAGenerator)
    with serving(app) as client:
        headers = client.get("/health").headers
    assert headers["x-mine"] == "1"
    assert headers["content-type"] == "application/json"
