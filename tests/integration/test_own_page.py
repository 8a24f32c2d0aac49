"""The application's own GET /metrics: its access control, its words, and ours beside them."""

import gzip

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    make_asgi_app,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from otel_coach.instrumentors.asgi.middleware import Middleware
from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from tests.support.hooks import inject
from tests.support.serving import serving

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CLERK = {"authorization": "Bearer clerk"}


@pytest.fixture
def private():
    registry = CollectorRegistry()
    Counter("shop_orders", "Orders", ["kind"], registry=registry).labels('a "b" {c}\\').inc(7)
    Histogram("shop_seconds", "Seconds", registry=registry).observe(0.3)
    Gauge("shop_open", "Open", registry=registry).set(1)
    return registry


def clerk(request: Request):
    if request.headers.get("authorization") != CLERK["authorization"]:
        raise HTTPException(401, "no", {"www-authenticate": "Bearer"})


def with_page(registry, *dependencies, **options):
    app = FastAPI(**options)

    @app.get("/metrics", dependencies=[Depends(one) for one in dependencies])
    def metrics():
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/hello")
    def hello():
        return "hello"

    return app


def is_ours(text):
    return bool(Page(text).samples("otel_coach_errors_total"))


def test_what_the_application_refuses_stays_refused_word_for_word(private):
    app = with_page(private, clerk)
    with serving(app) as client:
        bare = client.get("/metrics")
    with measuring(), serving(app) as client:
        refused, shown = client.get("/metrics"), client.get("/metrics", headers=CLERK)
    assert (
        (refused.status_code, refused.content)
        == (bare.status_code, bare.content)
        == (
            401,
            b'{"detail":"no"}',
        )
    )
    assert refused.headers["www-authenticate"] == bare.headers["www-authenticate"]
    assert is_ours(shown.text)
    assert Page(shown.text).sum("shop_orders_total") == 7


@pytest.mark.parametrize("status", [301, 403, 404, 429, 500, 503])
def test_no_other_answer_of_its_own_is_changed(measured, status):
    app = FastAPI()

    @app.get("/metrics")
    def metrics():
        return PlainTextResponse("mine", status, {"x-mine": "1", "location": "/elsewhere"})

    with serving(app) as client:
        answer = client.get("/metrics")
    assert (answer.status_code, answer.text, answer.headers["x-mine"]) == (status, "mine", "1")


def test_if_ours_fails_before_the_application_is_asked_its_page_is_sent_alone(monkeypatch, private):
    def failing(*_):
        raise ZeroDivisionError

    inject(monkeypatch, Middleware, "_page_answer", failing)
    with measuring() as measured, serving(with_page(private)) as client:
        assert client.get("/metrics").content == generate_latest(private)
        assert measured.page().sum("otel_coach_errors_total") == 1


def test_its_middlewares_are_asked_too(measured, private):
    app = with_page(private)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["example.org"])
    with serving(app) as client:
        assert client.get("/metrics").status_code == 400
        assert is_ours(client.get("/metrics", headers={"host": "example.org"}).text)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_private_registry_is_there_as_the_application_wrote_it(measured, private, accept):
    with serving(with_page(private)) as client:
        client.get("/hello")
        answer = client.get("/metrics", headers={"accept": accept})
    assert generate_latest(private).decode() in answer.text
    page = Page(answer.text)  # which refuses a family that is there twice
    assert page.sum("http_server_request_duration_seconds_count", endpoint="/hello") == 1
    assert answer.headers["content-type"].startswith("text/plain")


def test_an_answer_in_openmetrics_stays_one(measured, private):
    app = FastAPI()

    @app.get("/metrics")
    def metrics():
        text = openmetrics.generate_latest(private)
        return Response(text, media_type=openmetrics.CONTENT_TYPE_LATEST)

    with serving(app) as client:
        answer = client.get("/metrics")
    families = {family.name for family in strict(answer.text)}
    assert {"shop_orders", "shop_seconds", "otel_coach_errors"} <= families


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_page_that_is_mounted_shows_ours_too(private, path, prefix):
    app = FastAPI(root_path=prefix)
    app.mount("/metrics", make_asgi_app(private))
    with measuring(), serving(app) as client:
        answer = client.get(prefix + path, follow_redirects=True)
    assert is_ours(answer.text)
    assert Page(answer.text).sum("shop_orders_total") == 7


def test_a_page_of_an_included_router_is_its_own(measured, private):
    router = APIRouter(prefix="/metrics")

    @router.get("", dependencies=[Depends(clerk)])
    def metrics():
        return PlainTextResponse(generate_latest(private))

    app = FastAPI()
    app.include_router(router)
    with serving(app) as client:
        assert client.get("/metrics").status_code == 401
        assert Page(client.get("/metrics", headers=CLERK).text).sum("shop_orders_total") == 7


def test_a_route_for_anything_is_no_page_of_its_own(measured, tmp_path):
    (tmp_path / "index.html").write_text("<p>hello")
    files, any_path, any_name = FastAPI(), FastAPI(), FastAPI()
    files.mount("/", StaticFiles(directory=tmp_path, html=True))

    @any_path.get("/{path:path}")
    def of_path(path: str):
        return "mine"

    @any_name.get("/{name}")
    def of_name(name: str):
        return "mine"

    for app in (files, any_path, any_name, FastAPI()):
        with serving(app) as client:
            assert is_ours(client.get("/metrics").text)


def test_other_methods_of_that_path_are_the_applications(measured):
    app = FastAPI()

    @app.post("/metrics")
    def post():
        return "mine"

    with serving(app) as client:
        assert client.post("/metrics").json() == "mine"
        assert is_ours(client.get("/metrics").text)


def test_an_answer_that_is_no_page_is_left_alone_and_named_once(measured, caplog):
    app = FastAPI()

    @app.get("/metrics")
    def metrics():
        return JSONResponse({"orders": 7})

    with serving(app) as client:
        for _ in range(3):
            assert client.get("/metrics").json() == {"orders": 7}
    (line,) = [r.getMessage() for r in caplog.records if "OTEL_COACH_METRICS_PATH" in r.message]
    assert "application/json" in line


@pytest.mark.parametrize("body", ["all is well", "a b c d", "{", "metric{", "\x00", "nan"])
def test_plain_text_that_is_no_page_is_left_alone(measured, body):
    app = FastAPI()

    @app.get("/metrics")
    def metrics():
        return PlainTextResponse(body)

    with serving(app) as client:
        assert client.get("/metrics").text == body


def test_names_that_both_have_are_shown_once_and_said_once(measured, caplog):
    registry = CollectorRegistry()
    Counter("auth_failures", "Theirs", registry=registry).inc(5)
    Gauge("shop_open", "Open", registry=registry).set(1)
    with serving(with_page(registry)) as client:
        for _ in range(2):
            page = Page(client.get("/metrics").text)
    assert page.sum("shop_open") == 1
    assert page.samples("auth_failures_total") == []
    assert "# otel-coach: another family that uses the name auth_failures_total is" in page.text
    lines = [r.getMessage() for r in caplog.records if "auth_failures" in r.getMessage()]
    assert len(lines) == 1


def test_a_scrape_asks_once_and_counts_as_no_request(measured, private):
    asked = []
    app = with_page(private, lambda: asked.append(1))
    with serving(app) as client:
        client.get("/hello")
        assert not asked
        client.get("/metrics")
        page = Page(client.get("/metrics").text)
    assert len(asked) == 2
    assert page.sum("http_server_request_duration_seconds_count", endpoint="/metrics") == 0
    assert [span.name for span in measured.spans] == ["GET /hello"]


@pytest.mark.parametrize("token", [None, "Bearer sesame"])
def test_our_token_guards_our_families_and_not_its_own(private, token):
    app = with_page(private)
    headers = {} if token is None else {"authorization": token}
    with measuring(Settings(metrics_token="sesame")), serving(app) as client:
        answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert Page(answer.text).sum("shop_orders_total") == 7
    assert is_ours(answer.text) is (token is not None)
    if token is None:
        assert answer.content == generate_latest(private)


def test_its_headers_stay_and_its_compression_is_ours(measured, private):
    app = with_page(private)

    class Marks(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            response = await call_next(request)
            response.headers["x-mine"] = "1"
            return response

    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(Marks)
    with serving(app) as client:
        answer = client.get("/metrics", headers={"accept-encoding": "gzip"})
        with client.stream("GET", "/metrics", headers={"accept-encoding": "gzip"}) as raw:
            body = b"".join(raw.iter_raw())
    assert answer.headers["x-mine"] == "1"
    assert is_ours(gzip.decompress(body).decode())
    assert int(answer.headers["content-length"]) > 0


def test_an_answer_that_breaks_off_breaks_off_as_without_us(private):
    app = FastAPI()

    @app.get("/metrics")
    async def metrics():
        async def broken():
            yield b"shop_open 1\n"
            raise ZeroDivisionError

        from fastapi.responses import StreamingResponse

        return StreamingResponse(broken(), media_type="text/plain")

    import httpx

    with measuring(), serving(app) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get("/metrics")


def test_a_fault_of_ours_leaves_its_own_page(measured, private, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(type(measured.installation.page), "render", fails)
    with serving(with_page(private)) as client:
        assert client.get("/metrics").content == generate_latest(private)
    monkeypatch.undo()
    assert measured.page().sum("otel_coach_errors_total") == 1
