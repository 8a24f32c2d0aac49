"""Requests, streams, auth failures and limits, through a real uvicorn over real sockets."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import pytest
from conftest import eventually, serving
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery
from fastapi.staticfiles import StaticFiles
from langchain_core.language_models import FakeListChatModel
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

HTTP = "http_server_request_duration_seconds_count"
AI = "app_ai_request_duration_seconds_count"


def counted(measured, name=HTTP):
    """{(endpoint, method, status): count} of all requests."""
    return {
        (labels["endpoint"], labels["method"], labels["status"]): int(value)
        for labels, value in measured.page().samples(name)
    }


# Endpoints


def application(tmp_path):
    app = FastAPI()
    router = APIRouter(prefix="/v1/coaching")
    inner = APIRouter(prefix="/athletes")

    @inner.get("/{athlete_id}/plans/{path:path}")
    def plans(athlete_id: int, path: str):
        return path

    @router.post("/chat")
    def chat():
        return "hi"

    router.include_router(inner)
    app.include_router(router)

    @app.get("/health")
    def health():
        return "ok"

    sub = FastAPI()

    @sub.get("/items/{item}")
    def item(item: str):
        return item

    app.mount("/sub", sub)
    tenant = Starlette(routes=[Route("/home", lambda _: PlainTextResponse("home"))])
    app.mount("/tenants/{tenant}", tenant)
    (tmp_path / "a.txt").write_text("a")
    app.mount("/static", StaticFiles(directory=tmp_path))
    return app


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
    assert not measured.spans


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


def test_streams_on_trio_are_left_alone(measured):
    from starlette.testclient import TestClient

    app = FastAPI()

    @app.get("/stream")
    async def stream():
        async def chunks():
            yield "a"
            yield "b"

        return StreamingResponse(chunks())

    assert TestClient(app, backend="trio").get("/stream").text == "ab"
    assert measured.page().sum("otel_coach_errors_total") == 0


# AI requests and streams

MODEL = FakeListChatModel(responses=["one two three"])


def ask():
    return MODEL.invoke("hi").content


def streaming_app():
    app = FastAPI()

    async def chunks(count, pause=0.0):
        ask()
        for number in range(count):
            yield f"chunk {number}\n"
            await asyncio.sleep(pause)

    @app.get("/stream/{count}")
    async def stream(count: int, pause: float = 0.0):
        return StreamingResponse(chunks(count, pause))

    @app.get("/plain")
    async def plain():
        return {"answer": await asyncio.to_thread(ask)}

    @app.get("/slow")
    async def slow():
        ask()
        await asyncio.sleep(0.5)
        return "late"

    @app.get("/breaks")
    async def breaks():
        async def broken():
            ask()
            yield "chunk"
            raise RuntimeError

        return StreamingResponse(broken())

    @app.get("/background")
    async def background():
        from starlette.background import BackgroundTask

        return Response("done", background=BackgroundTask(ask))

    return app


LABELS = {"model": "none", "mode": "stream"}


def test_a_stream_counts_its_chunks_once_at_its_end(measured):
    with serving(streaming_app()) as client:
        received = [chunk for chunk in client.get("/stream/7").text.splitlines() if chunk]
    page = measured.page()
    assert page.samples("app_ai_stream_chunks_total") == [
        ({"endpoint": "/stream/{count}", "status": "ok", **LABELS}, len(received))
    ]
    assert page.sum(AI, status="ok", **LABELS) == 1
    assert page.sum("app_ai_time_to_first_chunk_seconds_count", **LABELS) == 1
    assert page.samples("app_ai_stream_aborts_total", status="aborted") == [
        ({"endpoint": "/stream/{count}", "status": "aborted", **LABELS}, 0)
    ]
    assert page.samples("app_ai_streams_active") == [({"endpoint": "/stream/{count}"}, 0)]


def test_a_plain_answer_is_an_ai_request_and_no_stream(measured):
    with serving(streaming_app()) as client:
        client.get("/plain")
    page = measured.page()
    assert page.sum(AI, endpoint="/plain", mode="invoke", status="ok") == 1
    assert page.sum("app_ai_stream_chunks_total") == 0


def test_a_request_without_ai_work_is_no_ai_request(measured):
    app = FastAPI()

    @app.get("/stream")
    def stream():
        return StreamingResponse(iter(["a", "b"]))

    with serving(app) as client:
        client.get("/stream")
    assert counted(measured) == {("/stream", "GET", "200"): 1}
    assert counted_names(measured, "app_ai_") == set()


def counted_names(measured, prefix):
    return {name for name in measured.page().names if name.startswith(prefix)}


def test_a_stream_is_active_while_it_is_open(measured):
    with (
        serving(streaming_app()) as client,
        client.stream("GET", "/stream/3?pause=0.4") as response,
    ):
        chunks = response.iter_raw()
        next(chunks)
        assert measured.page().sum("app_ai_streams_active", endpoint="/stream/{count}") == 1
        list(chunks)
        eventually(lambda: measured.page().sum("app_ai_streams_active") == 0)


def test_a_client_that_leaves_a_stream_aborts_it_and_is_no_error(measured):
    with serving(streaming_app()) as client:
        with client.stream("GET", "/stream/1000?pause=0.02") as response:
            chunks = response.iter_raw()
            for _ in range(3):
                next(chunks)
        eventually(lambda: measured.page().sum(AI) == 1)
    page = measured.page()
    labels = {"endpoint": "/stream/{count}", "status": "aborted"}
    assert page.sum("app_ai_stream_aborts_total", **labels) == 1
    assert page.sum(AI, **labels) == 1
    assert 3 <= page.sum("app_ai_stream_chunks_total", **labels) < 100
    assert page.sum("app_ai_stream_chunks_total", status="ok") == 0
    (span,) = (span for span in measured.spans if span.kind.name == "SERVER")
    assert span.status.status_code.name == "UNSET"
    assert span.attributes["otel_coach.outcome"] == "aborted"


def test_a_client_that_leaves_before_the_response_is_aborted_in_the_duration_alone(measured):
    with serving(streaming_app()) as client:
        leaver = socket.create_connection((client.base_url.host, client.base_url.port))
        leaver.sendall(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        time.sleep(0.2)
        leaver.close()
        eventually(lambda: measured.page().sum(AI) == 1)
    page = measured.page()
    assert page.sum(AI, endpoint="/slow", status="aborted") == 1
    assert counted_names(measured, "app_ai_stream_") == set()


def test_an_exception_in_a_stream_is_an_error(measured):
    import httpx

    with serving(streaming_app()) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/breaks")
        eventually(lambda: measured.page().sum(AI) == 1)
    assert measured.page().sum(AI, endpoint="/breaks", status="error") == 1
    (span,) = (span for span in measured.spans if span.kind.name == "SERVER")
    assert span.attributes["error.type"] == "RuntimeError"


def test_background_work_makes_no_ai_request_but_its_calls_count(measured):
    with serving(streaming_app()) as client:
        client.get("/background")
        eventually(lambda: measured.page().sum("agent_llm_requests_total") == 1)
    page = measured.page()
    assert page.sum(AI) == 0
    assert page.sum(HTTP, endpoint="/background") == 1


class Nothing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


@pytest.mark.parametrize("middlewares", [(Nothing,), (GZipMiddleware,), (Nothing, GZipMiddleware)])
def test_middlewares_around_the_stream_change_no_outcome(measured, middlewares):
    app = streaming_app()
    for middleware in middlewares:
        app.add_middleware(middleware)
    with serving(app) as client:
        assert len(client.get("/stream/5").text.splitlines()) == 5
        with client.stream("GET", "/stream/1000?pause=0.02") as response:
            next(response.iter_raw())
        client.get("/plain")
        eventually(lambda: measured.page().sum(AI) == 3)
    page = measured.page()
    assert page.sum(AI, endpoint="/stream/{count}", status="ok") == 1
    assert page.sum(AI, endpoint="/stream/{count}", status="aborted") == 1
    # GZip around a BaseHTTPMiddleware takes the content-length away: that is a stream.
    mode = "stream" if middlewares == (Nothing, GZipMiddleware) else "invoke"
    assert page.sum(AI, endpoint="/plain", mode=mode, status="ok") == 1
    assert page.sum("app_ai_stream_aborts_total") == 1


def test_the_last_outermost_run_decides_even_behind_a_200(measured):
    app = FastAPI()

    def broken():
        from langchain_core.runnables import RunnableLambda

        return RunnableLambda(lambda _: 1 / 0)

    @app.get("/hidden")
    def hidden():
        ask()
        try:
            broken().invoke(1)
        except ZeroDivisionError:
            return "all is well"

    @app.get("/recovered")
    def recovered():
        try:
            broken().invoke(1)
        except ZeroDivisionError:
            return ask()

    with serving(app) as client:
        assert client.get("/hidden").status_code == 200
        assert client.get("/recovered").status_code == 200
    page = measured.page()
    assert page.sum(AI, endpoint="/hidden", status="error") == 1
    assert page.sum(AI, endpoint="/recovered", status="ok") == 1


# Auth

header_key = APIKeyHeader(name="X-Coach-Key", auto_error=False)
query_key = APIKeyQuery(name="coach_key", auto_error=False)
cookie_key = APIKeyCookie(name="coach_session", auto_error=False)


def refusing_app():
    app = FastAPI()

    def refuse(status, challenge=None):
        headers = {"WWW-Authenticate": challenge} if challenge else None
        raise HTTPException(status, headers=headers)

    @app.get("/bearer")
    def bearer(challenge: str = ""):
        refuse(401, challenge)

    @app.get("/header")
    def header(_=Depends(header_key)):
        refuse(403)

    @app.get("/query")
    def query(_=Depends(query_key)):
        refuse(403)

    @app.get("/cookie")
    def cookie(_=Depends(cookie_key)):
        refuse(401)

    router = APIRouter(prefix="/all", dependencies=[Depends(header_key)])

    @router.get("/x")
    def routed():
        refuse(403)

    app.include_router(router)
    return app


@pytest.mark.parametrize(
    ("path", "headers", "reason"),
    [
        ("/bearer?challenge=Bearer", {}, "missing_credentials"),
        ("/bearer?challenge=Bearer", {"Authorization": "Bearer x"}, "rejected"),
        ('/bearer?challenge=Bearer error="invalid_token"', {}, "invalid_token"),
        ("/bearer?challenge=Bearer realm=x, error=insufficient_scope", {}, "insufficient_scope"),
        ('/bearer?challenge=Bearer error="invalid_request"', {}, "invalid_request"),
        ('/bearer?challenge=Bearer error="made_up"', {"Authorization": "x"}, "rejected"),
        ("/bearer", {"X-API-Key": "x"}, "rejected"),
        ("/bearer", {"Cookie": "a=b"}, "rejected"),
        ("/bearer", {"X-Coach-Key": "x"}, "missing_credentials"),
        ("/header", {"X-Coach-Key": "x"}, "rejected"),
        ("/header", {}, "missing_credentials"),
        ("/all/x", {"X-Coach-Key": "x"}, "rejected"),
        ("/query?coach_key=x", {}, "rejected"),
        ("/query?other=x", {}, "missing_credentials"),
        ("/cookie", {"Cookie": "coach_session=x"}, "rejected"),
    ],
)
def test_every_401_and_403_with_its_reason(measured, path, headers, reason):
    with serving(refusing_app()) as client:
        status = client.get(path, headers=headers).status_code
    endpoint = path.partition("?")[0]
    assert measured.page().samples("auth_failures_total") == [
        (
            {"endpoint": endpoint, "method": "GET", "status": str(status), "error_type": reason},
            1,
        )
    ]


# 429


def limited_app(kind):
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
    from slowapi.util import get_remote_address
    from starlette.requests import Request

    limits = [] if kind == "decorator" else ["3/minute"]
    limiter = Limiter(key_func=get_remote_address, default_limits=limits)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

    # On the application itself: slowapi's middlewares do not see into an included router.
    async def chat(request: Request, name: str):
        return name

    app.get("/v1/chat/{name}")(limiter.limit("3/minute")(chat) if kind == "decorator" else chat)
    if kind == "middleware":
        app.add_middleware(SlowAPIMiddleware)
    if kind == "asgi-middleware":
        app.add_middleware(SlowAPIASGIMiddleware)
    return app


@pytest.mark.parametrize("kind", ["decorator", "middleware", "asgi-middleware"])
def test_every_429_has_its_routes_template_in_slowapis_three_ways(measured, kind):
    with serving(limited_app(kind)) as client:
        statuses = [client.get(f"/v1/chat/{number % 2}").status_code for number in range(8)]
    limited = statuses.count(429)
    assert limited > 0
    page = measured.page()
    assert page.samples("rate_limit_hits_total") == [({"endpoint": "/v1/chat/{name}"}, limited)]
    assert page.sum(HTTP, endpoint="/v1/chat/{name}", status="429") == limited
    assert page.sum(HTTP, endpoint="/v1/chat/{name}", status="200") == statuses.count(200)


# What must not change


def raw(client, request):
    """The bytes of a response, but for its date."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(request)
        answer = b""
        while block := connection.recv(65536):
            answer += block
    return b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"date:"))


REQUESTS = [
    f"{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
    for line in ("GET /plain", "GET /stream/4", "GET /none", "POST /plain", "GET /background")
]


def test_the_applications_answers_are_byte_for_byte_those_of_the_bare_one():
    from otel_coach.testing import measuring

    app = streaming_app()
    with serving(app) as client:
        bare = [raw(client, request) for request in REQUESTS]
    app = streaming_app()
    with measuring() as measured, serving(app) as client:
        assert [raw(client, request) for request in REQUESTS] == bare
        assert measured.page().sum(HTTP) == len(REQUESTS)
    with serving(app) as client:  # the same application, uninstrumented
        assert [raw(client, request) for request in REQUESTS] == bare


def test_fastapis_openapi_and_html_pages_are_untouched(measured):
    app = FastAPI()

    @app.get("/page", response_class=HTMLResponse)
    def page():
        return "<p>hi</p>"

    with serving(app) as client:
        assert client.get("/page").text == "<p>hi</p>"
        assert set(client.get("/openapi.json").json()["paths"]) == {"/page"}


def test_credentials_count_as_they_were_sent(measured):
    """Also where a middleware takes them out of the scope, or rewrites what was asked."""
    app = FastAPI()

    @app.get("/closed")
    async def closed():
        raise HTTPException(401)

    class Rewriting:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] == "http":
                scope["headers"] = []
            await self.app(scope, receive, send)

    app.add_middleware(Rewriting)
    with serving(app) as client:
        client.get("/closed", headers={"x-api-key": "wrong"})
    page = measured.page()
    assert page.sum("auth_failures_total", endpoint="/closed", error_type="rejected") == 1
