"""Auth failures and limits, through a real uvicorn over real sockets."""

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery

from tests.support.applications import HTTP
from tests.support.serving import serving

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
