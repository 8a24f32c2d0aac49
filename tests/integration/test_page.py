"""The page over HTTP: its formats and its place."""

import gzip
import threading

import httpx
import pytest
from fastapi.responses import PlainTextResponse
from prometheus_client import REGISTRY, Counter, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as classic

from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from tests.support.exposition import hello
from tests.support.serving import serving

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def test_prometheus_text_is_the_default(measured):
    with serving(hello()) as client:
        client.get("/hello")
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert Page(answer.text).sum("http_server_request_duration_seconds_count") == 1


def test_openmetrics_for_who_asks_and_the_strict_parser_agrees(measured):
    with serving(hello()) as client:
        client.get("/hello")
        answer = client.get("/metrics", headers={"accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith(OPENMETRICS)
    assert answer.text.endswith("# EOF\n")
    families = {family.name for family in strict(answer.text)}
    assert "http_server_request_duration_seconds" in families


def test_the_scrape_header_of_a_real_prometheus_is_understood(measured):
    accept = (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    )
    with serving(hello()) as client:
        answer = client.get("/metrics", headers={"accept": accept})
    list(strict(answer.text))


def test_gzip_only_for_who_accepts_it(measured):
    with serving(hello()) as client:
        plain = client.get("/metrics", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert "# HELP" in plain.text
        with client.stream("GET", "/metrics", headers={"accept-encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            body = b"".join(answer.iter_raw())
    list(classic(gzip.decompress(body).decode()))
    assert len(body) < len(plain.content)


def test_head_has_the_headers_and_no_body(measured):
    with serving(hello()) as client:
        answer = client.head("/metrics", headers={"accept-encoding": "identity"})
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 0


def test_the_page_counts_and_traces_itself_not(measured):
    with serving(hello()) as client:
        client.get("/metrics")
        client.head("/metrics")
        page = Page(client.get("/metrics").text)
    assert page.samples("http_server_request_duration_seconds_count") == []
    assert not measured.spans


def test_other_methods_and_paths_are_the_applications(measured):
    app = hello()

    @app.post("/metrics")
    def post():
        return "mine"

    @app.get("/metrics/more")
    def more():
        return "more"

    with serving(app) as client:
        assert client.post("/metrics").json() == "mine"
        assert client.get("/metrics/more").json() == "more"


def test_the_applications_default_registry_is_on_the_page_with_and_without_a_page_of_its_own(
    measured, default_registry
):
    orders = default_registry(Counter, "shop_orders", "Orders", ["kind"])
    orders.labels("book").inc(3)
    with_a_page = hello()

    @with_a_page.get("/metrics")
    def own():
        return PlainTextResponse(generate_latest(REGISTRY))

    for app in (hello(), with_a_page):
        with serving(app) as client:
            page = Page(client.get("/metrics").text)
        assert page.samples("shop_orders_total") == [({"kind": "book"}, 3)]
        assert page.samples("otel_coach_errors_total")


@pytest.mark.parametrize("text", ["/internal/otel", "/internal/otel/", "/internal/otel//"])
def test_the_page_is_at_its_path_with_and_without_a_slash_at_the_end(text):
    settings = Settings.from_env({"OTEL_COACH_METRICS_PATH": text})
    assert settings == Settings.from_env({"OTEL_COACH_METRICS_PATH": "/internal/otel"})
    with measuring(settings), serving(hello()) as client:
        for path in ("/internal/otel", "/internal/otel/"):
            assert (
                Page(client.get(path).raise_for_status().text).sum("otel_coach_errors_total") == 0
            )


def test_the_page_may_be_at_the_root():
    assert Settings(metrics_path="//").metrics_path == "/"
    with measuring(Settings(metrics_path="/")), serving(hello()) as client:
        assert Page(client.get("/").text).sum("otel_coach_errors_total") == 0
        assert client.get("/hello/").status_code == 307
        assert client.get("/nowhere/").status_code == 404


def test_another_path_leaves_the_applications_page_alone():
    app = hello()

    @app.get("/metrics")
    def own():
        return PlainTextResponse("mine")

    with measuring(Settings(metrics_path="/internal/otel")), serving(app) as client:
        assert client.get("/metrics").text == "mine"
        page = Page(client.get("/internal/otel").text)
    assert page.sum("http_server_request_duration_seconds_count", endpoint="/metrics") == 1


def test_concurrent_scrapes_each_show_everything(measured):
    with serving(hello()) as client:
        client.get("/hello")
        counts = []

        def scrape():
            for _ in range(10):
                page = Page(httpx.get(f"{client.base_url}/metrics").text)
                counts.append(page.sum("http_server_request_duration_seconds_count"))

        threads = [threading.Thread(target=scrape) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == [1] * 40
