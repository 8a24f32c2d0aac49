"""What strangers send first takes nothing from the routes of a service."""

import http.client
import random

import pytest
from fastapi import FastAPI, Query
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.parser import text_string_to_metric_families

from otel_coach.metrics.catalogue import (
    AUTH_FAILURES,
)
from otel_coach.testing import measuring
from tests.support.junk import COUNT, METHODS, assert_within_the_worst_case, settings
from tests.support.serving import serving

VERBS = [*METHODS, "HEAD", "OPTIONS", "TRACE", "PROPFIND", "PURGE"]


def with_routes(number):
    """An application of that many routes, each of which answers one method."""
    app = FastAPI()

    @app.middleware("http")
    async def doorkeeper(request, call_next):
        if "x-key" in request.headers and request.headers["x-key"] != "right":
            return PlainTextResponse("no", 403)
        if "x-key" not in request.headers:
            return PlainTextResponse("who?", 401)
        return await call_next(request)

    async def answer(code: int = Query(le=599)):
        return JSONResponse({}, code)

    own = {}
    for place in range(number):
        template, method = f"/r{place}/{{item}}", METHODS[place % len(METHODS)]
        app.add_api_route(template, answer, methods=[method])
        own[template] = method
    return app, own


class Caller:
    """Sends requests on one connection, whatever is in them."""

    def __init__(self, client):
        self._connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port)

    def send(self, method, path, **headers):
        self._connection.request(method, path, headers=headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


@pytest.mark.long
def test_500_routes_keep_their_own_figures_whatever_came_first():
    chance = random.Random(7)
    app, own = with_routes(500)
    budgets = settings(BUDGET_ENDPOINT="600", BUDGET_LABEL_SET="300")
    with measuring(budgets) as measured, serving(app) as client:
        send = Caller(client).send
        for number, template in enumerate(own):
            path = template.replace("{item}", str(number))
            verb = chance.choice([verb for verb in VERBS if verb != own[template]])
            headers = chance.choice([{}, {"x-key": "right"}, {"x-key": "wrong"}, {"host": "h"}])
            send(verb, chance.choice([path, path, path, f"/{number}/nowhere"]), **headers)
        page = measured.page()
        assert page.sum("otel_coach_label_overflow_total", error_type="label_set") > 0
        expected, refused = set(), set()
        for number, (template, method) in enumerate(own.items()):
            path = template.replace("{item}", "1")
            for code in (200, 503, 404, 422, 500)[: 2 if number % 9 else None]:
                assert send(method, f"{path}?code={code}", **{"x-key": "right"}) == code
                expected.add((template, method, str(code)))
            if number % 9 == 0:
                assert send(method, path) == 401
                assert send(method, path, **{"x-key": "wrong"}) == 403
                expected |= {(template, method, "401"), (template, method, "403")}
                refused |= {(template, method, "401", "missing_credentials")}
        page = measured.page()
    shown = {(one["endpoint"], one["method"], one["status"]) for one, _ in page.samples(COUNT)}
    assert expected <= shown
    rows = page.samples("auth_failures_total")
    assert refused <= {tuple(row[key] for key in AUTH_FAILURES.labels) for row, _ in rows}
    assert page.sum("otel_coach_label_overflow_total", error_type="endpoint") == 0
    assert page.sum(COUNT) == 500 + 2 * 500 + (3 + 2) * 56
    for method in set(shown_of(page, "method")) - {"_OTHER"}:
        templates = {row["endpoint"] for row, _ in page.samples(COUNT, method=method)}
        assert templates <= {one for one in own if own[one] == method} | {"unmatched", "other"}
    assert_within_the_worst_case(page, budgets)


def shown_of(page, label):
    return [row[label] for row, _ in page.samples(COUNT)]


def test_a_route_that_gives_every_status_takes_no_places_of_others():
    app = FastAPI()

    @app.api_route("/echo/{code}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    async def echo(code: int):
        return PlainTextResponse("", code)

    @app.get("/plans")
    async def plans(code: int):
        return PlainTextResponse("", code)

    with measuring(settings(BUDGET_LABEL_SET="20")) as measured, serving(app) as client:
        send = Caller(client).send
        for code in (*range(599, 299, -1), 200):
            for method in METHODS:
                send(method, f"/echo/{code}")
        for code in (200, 401, 404, 429, 500, 502, 503):
            send("GET", f"/plans?code={code}")
        page = measured.page()
    shown = {one["status"] for one, _ in page.samples(COUNT, endpoint="/plans")}
    assert shown == {"200", "401", "404", "429", "500", "502", "503"}
    assert page.sum(COUNT) == 301 * 5 + 7
    assert_within_the_worst_case(page, settings(BUDGET_LABEL_SET="20"))


# The method as a label


def test_a_method_that_a_route_does_not_answer_has_no_name_of_its_own():
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["https://good"], allow_methods=["POST"])

    @app.post("/chat")
    @app.get("/items")
    @app.put("/items")
    async def answer():
        return {}

    @app.exception_handler(405)
    async def hidden(_request, _error):
        return PlainTextResponse("nothing here", 404)

    @app.api_route("/strict", methods=METHODS)
    async def strict():
        return PlainTextResponse("no", 405)

    asks = {"access-control-request-method": "POST"}
    with measuring() as measured, serving(app) as client:
        for method, path, headers in (
            ("POST", "/chat", {}),
            ("DELETE", "/chat", {}),
            ("OPTIONS", "/chat", {"origin": "https://good", **asks}),
            ("OPTIONS", "/chat", {"origin": "https://bad", **asks}),
            ("OPTIONS", "/chat", {}),
            ("GET", "/items", {}),
            ("PUT", "/items", {}),
            ("PATCH", "/items", {}),
            ("PATCH", "/strict", {}),
            ("PATCH", "/nowhere", {}),
        ):
            client.request(method, path, headers=headers)
        rows = measured.page().samples(COUNT)
        names = [span.name for span in measured.spans]
    assert {(one["endpoint"], one["method"], one["status"]): value for one, value in rows} == {
        ("/chat", "POST", "200"): 1,
        ("/chat", "_OTHER", "404"): 2,
        ("/chat", "OPTIONS", "200"): 1,
        ("/chat", "_OTHER", "400"): 1,
        ("/items", "GET", "200"): 1,
        ("/items", "PUT", "200"): 1,
        ("/items", "_OTHER", "404"): 1,
        ("/strict", "_OTHER", "405"): 1,
        ("unmatched", "PATCH", "404"): 1,
    }
    assert "DELETE /chat" in names  # a span says what was sent


def test_a_method_that_a_middleware_puts_in_the_place_of_another_is_the_routes_own():
    app = FastAPI()

    @app.middleware("http")
    async def override(request, call_next):
        request.scope["method"] = request.headers.get("x-http-method-override", request.method)
        return await call_next(request)

    @app.put("/plans")
    async def plans():
        return JSONResponse({}, 500)

    with measuring() as measured, serving(app) as client:
        client.post("/plans", headers={"x-http-method-override": "PUT"})
        client.post("/plans")
        rows = measured.page().samples(COUNT)
    shown = {(one["endpoint"], one["method"], one["status"]) for one, _ in rows}
    assert shown == {("/plans", "POST", "500"), ("/plans", "_OTHER", "405")}


# Instruments of others


def test_the_page_can_be_read_with_all_of_it():
    app, own = with_routes(3)
    with measuring() as measured, serving(app) as client:
        send = Caller(client).send
        for verb in VERBS:
            for template in own:
                send(verb, template, **{"x-key": "right"})
        text = measured.page().text
    assert list(text_string_to_metric_families(text))
