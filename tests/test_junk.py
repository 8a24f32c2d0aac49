"""What strangers send first takes nothing from what the application declares."""

import http.client
import itertools
import random

import pytest
import test_fuzz  # noqa: F401 - how many examples are tried
from conftest import serving
from fastapi import FastAPI, Query
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from otel_coach.budgets import Budgets
from otel_coach.cardinality import most_series
from otel_coach.catalogue import (
    AI_REQUEST_DURATION,
    AUTH_FAILURES,
    CATALOGUE,
    LLM_REQUESTS,
    TOOL_CALLS,
)
from otel_coach.catalogue import HTTP_REQUEST_DURATION as HTTP
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from otel_coach.workers.log import SharedLog

COUNT = "http_server_request_duration_seconds_count"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
VERBS = [*METHODS, "HEAD", "OPTIONS", "TRACE", "PROPFIND", "PURGE"]


def settings(**environ):
    return Settings.from_env({f"OTEL_COACH_{name}": value for name, value in environ.items()})


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


def assert_within_the_worst_case(page, found):
    for metric in CATALOGUE:
        rows = [name for name in page.names if name.startswith(metric.prometheus_name)]
        lines = sum(len(page.samples(name)) for name in rows)
        assert lines <= most_series(metric, found.budgets), metric.prometheus_name


ENDPOINTS = [f"/r{n}" for n in range(500)]
JUNK = st.tuples(
    st.sampled_from([*ENDPOINTS, "unmatched", "/made/up", "other"]) | st.text(max_size=4),
    st.sampled_from(["_OTHER", "GET", "POST", "PUT"]),
    st.sampled_from(["400", "401", "403", "404", "405", "413", "422", "429", "499", "418"]),
)


@given(st.lists(JUNK, max_size=60), st.randoms(use_true_random=False))
def test_any_junk_first(junk, chance):
    """Of a stranger: statuses of class 4xx for a route's own method, anything for all others."""
    budgets = Budgets({"endpoint": 600, "label_set": 20})
    budgets.reserve("endpoint", ENDPOINTS)
    budgets.reserve("status", ["200", "404", "422", "500", "503"])
    own = {endpoint: METHODS[place % 3] for place, endpoint in enumerate(ENDPOINTS)}

    def counted(*row):
        single = map(budgets.bounded, HTTP.labels, row)
        return tuple(budgets.together(HTTP.name, HTTP.labels, single, is_ours=True))

    repeated = [*junk, *(chance.choice(junk) for _ in range(300) if junk)]
    for endpoint, method, status in repeated:
        answers = method == own.get(endpoint, method)
        counted(endpoint, method if answers else "_OTHER", status)
    for endpoint in chance.sample(ENDPOINTS, 60):
        for status in ("200", "500", "503"):
            assert counted(endpoint, own[endpoint], status) == (endpoint, own[endpoint], status)


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


# Other families


@pytest.mark.parametrize("metric", [AI_REQUEST_DURATION, LLM_REQUESTS, TOOL_CALLS])
def test_past_the_limit_a_declared_name_is_kept(metric):
    """Models, modes and classes of errors that somebody made up fill the combinations."""
    tight = settings(BUDGET_LABEL_SET="30", ALLOWED_MODELS="gpt-9", ALLOWED_TOOL_NAMES="search")
    known = {"endpoint": "/chat", "model": "gpt-9", "tool_name": "search"}[metric.labels[0]]
    with measuring(tight) as measured:
        recorder = measured.installation.providers.recorder
        recorder.reserve("endpoint", ["/chat", "/other"])
        closed = {"status": ["ok", "error"]}
        values = [closed.get(label, [f"x{n}" for n in range(8)]) for label in metric.labels]
        for labels in itertools.product(*values):
            recorder.record(metric, 1, labels)
        rest = [closed.get(label, ["new"])[-1] for label in metric.labels[1:]]
        recorder.record(metric, 1, (known, *rest))
        recorder.record(metric, 1, ("unknown", *rest))
        page = measured.page()
        assert_within_the_worst_case(page, tight)
    suffix = "_count" if metric is AI_REQUEST_DURATION else ""
    rows = page.samples(metric.prometheus_name + suffix, **{metric.labels[0]: known})
    assert [(row["status"], value) for row, value in rows] == [("error", 1)]
    assert not page.samples(metric.prometheus_name + suffix, **{metric.labels[0]: "unknown"})


# Instruments of others


def lines_of(page, *names):
    return sum(len(page.samples(name)) for name in page.names if name.startswith(names))


def test_instruments_of_others_have_one_budget_of_lines_together(caplog):
    with measuring() as measured:
        meter = measured.installation.providers.meter_provider.get_meter("the.application")
        for number in range(300):
            size = meter.create_histogram(f"size.{number}")
            count = meter.create_counter(f"count.{number}")
            for labels in itertools.product(range(7), range(7)):
                size.record(1, dict(zip(("model", "mode"), map(str, labels), strict=True)))
                count.add(1, dict(zip(("mode", "model"), map(str, labels), strict=True)))
        page = measured.page()
    assert 9_500 < lines_of(page, "size_", "count_") <= 10_000
    for number in range(300):
        if page.samples(f"count_{number}_total"):
            assert page.sum(f"count_{number}_total") == 49  # none is lost of what is measured
            assert page.sum(f"size_{number}_count") in {0, 49}
    assert page.sum("otel_coach_label_overflow_total", error_type="instrument_lines") > 0
    assert caplog.text.count("OTEL_COACH_BUDGET_INSTRUMENT_LINES") == 1
    assert caplog.text.count("fill their budget of lines") == 1


def test_the_lines_of_others_are_counted_as_the_page_writes_them():
    with measuring(settings(BUDGET_INSTRUMENT_LINES="74")) as measured:
        meter = measured.installation.providers.meter_provider.get_meter("the.application")
        meter.create_histogram("plain").record(1)  # 15 bounds of the SDK's own, and 3
        three = meter.create_histogram("three", explicit_bucket_boundaries_advisory=[1, 2, 3])
        three.record(1)  # 6
        meter.create_up_down_counter("level").add(1)
        meter.create_observable_gauge("seen", [lambda _: ()])  # its line is kept for it
        for model in "abcdefghijk":
            three.record(1, {"model": model})  # 6 each: 8 have a place
        page = measured.page()
    assert lines_of(page, "plain") == 18
    assert lines_of(page, "three") == 6 * (1 + 8)
    assert page.sum("three_count", model="") == 1 + 3
    assert page.sum("three_count") == 12


def test_workers_together_keep_to_the_lines_of_others(tmp_path):
    workers = [Budgets({"instrument_lines": 100}) for _ in range(3)]
    workers[0].has_lines("before", (), 18)
    for worker in workers:
        worker.share(SharedLog(tmp_path / "log"))
    has = {
        (name, value)
        for value in range(9)
        for place, worker in enumerate(workers)
        if worker.has_lines(name := f"of.{place % 2}", (str(value),), 9)
    }
    assert len(has) == (100 - 18) // 9
    late = Budgets({"instrument_lines": 100})
    late.share(SharedLog(tmp_path / "log"))
    assert all(late.has_lines(name, (str(value),), 9) for name, value in has)
    assert late.has_lines("before", (), 18)
    assert not late.has_lines("new", (), 9)
    assert late.has_lines("new", (), 1)


def test_the_page_can_be_read_with_all_of_it():
    app, own = with_routes(3)
    with measuring() as measured, serving(app) as client:
        send = Caller(client).send
        for verb in VERBS:
            for template in own:
                send(verb, template, **{"x-key": "right"})
        text = measured.page().text
    assert list(text_string_to_metric_families(text))
