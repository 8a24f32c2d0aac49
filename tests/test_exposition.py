"""The page: its formats, its place, and other people's families on it."""

import gzip
import os
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from conftest import serving
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import REGISTRY, Counter, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as classic

from demo.programs import free_port
from demo.versions import HAS_UTF8_NAMES
from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from otel_coach.vocabulary import ALLOWED_LABELS

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PATIENT = {"timeout": 60}


@pytest.fixture
def default_registry():
    """prometheus_client's own, put back as it was."""
    made = []

    def make(cls, *args, **kwargs):
        made.append(cls(*args, **kwargs))
        return made[-1]

    yield make
    for collector in made:
        REGISTRY.unregister(collector)


def hello():
    app = FastAPI()

    @app.get("/hello")
    def greet():
        return "hello"

    return app


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


def test_another_path_leaves_the_applications_page_alone():
    app = hello()

    @app.get("/metrics")
    def own():
        return PlainTextResponse("mine")

    with measuring(Settings(metrics_path="/internal/otel")), serving(app) as client:
        assert client.get("/metrics").text == "mine"
        page = Page(client.get("/internal/otel").text)
    assert page.sum("http_server_request_duration_seconds_count", endpoint="/metrics") == 1


def test_a_family_of_our_name_is_shown_once_and_named_once(measured, default_registry, caplog):
    theirs = default_registry(Counter, "auth_failures", "Theirs", ["reason"])
    theirs.labels("x").inc()
    from otel_coach.catalogue import AUTH_FAILURES

    # Also before ours has a series: a family that changes hands looks as if it fell.
    assert measured.page().samples("auth_failures_total") == []
    measured.installation.providers.recorder.record(
        AUTH_FAILURES, 1, ("/a", "GET", "401", "rejected")
    )
    page = measured.page()  # Page refuses a family that is there twice
    assert "# otel-coach: another family auth_failures of this process is not shown" in page.text
    assert [set(labels) for labels, _ in page.samples("auth_failures_total")] == [
        {"endpoint", "method", "status", "error_type"}
    ]
    assert caplog.text.count("the family auth_failures is defined twice") == 1


def test_no_label_but_the_allowed_ones_no_scope_and_no_target_info(measured):
    meter = measured.installation.providers.meter_provider.get_meter("shop", "1.0")
    meter.create_counter("shop.visits").add(1, {"user_id": "u", "endpoint": "/x"})
    page = measured.page()
    assert page.samples("shop_visits_total") == [({"endpoint": "/x"}, 1)]
    ours = Page(generate_latest(measured.installation.providers.registry).decode())
    assert ours.labels <= ALLOWED_LABELS | {"le"}
    assert "target_info" not in page.names


def test_target_info_if_asked_for():
    with measuring(Settings(target_info=True)) as measured:
        assert "target_info" in measured.page().names


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


def test_a_port_of_its_own_and_then_not_inside_the_application():
    port = free_port()
    settings = Settings(metrics_port=port, metrics_host="127.0.0.1")
    with measuring(settings), serving(hello()) as client:
        client.get("/hello")
        assert client.get("/metrics").status_code == 404
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            page = Page(answer.read().decode())
        compressed = httpx.get(f"http://127.0.0.1:{port}/metrics")
        assert compressed.headers["content-encoding"] == "gzip"
        assert Page(compressed.text).types == page.types
    assert page.sum("http_server_request_duration_seconds_count", endpoint="/hello") == 1


def test_a_port_that_is_taken_is_one_line_and_the_service_goes_on(caplog):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(metrics_port=port, metrics_host="127.0.0.1")
        with measuring(settings), serving(hello()) as client:
            assert client.get("/hello").json() == "hello"
    (record,) = (r for r in caplog.records if r.name == "otel_coach")
    assert "OTEL_EXPORTER_PROMETHEUS_PORT" in record.getMessage()
    assert str(port) in record.getMessage()


TOKEN = "a-token-of-the-operators"


def test_a_page_closed_to_strangers():
    with measuring(Settings(metrics_token=TOKEN)), serving(FastAPI()) as client:
        for headers in (
            {},
            {"authorization": TOKEN},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer tökèn".encode()},
        ):
            answer = client.get("/metrics", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.content == b""
        answer = client.get("/metrics", headers={"authorization": f"bearer {TOKEN}"})
        assert answer.status_code == 200
        assert Page(answer.text).sum("auth_failures_total") == 0


def test_a_port_of_its_own_closed_to_strangers():
    port = free_port()
    settings = Settings(metrics_port=port, metrics_host="127.0.0.1", metrics_token=TOKEN)
    with measuring(settings), serving(FastAPI()) as client:
        client.get("/")
        url = f"http://127.0.0.1:{port}/metrics"
        assert httpx.get(url).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        page = Page(httpx.get(url, headers=headers).text)
        assert page.sum("http_server_request_duration_seconds_count") == 1


def test_the_token_is_in_no_settings_that_are_printed():
    assert TOKEN not in repr(Settings.from_env({"OTEL_COACH_METRICS_TOKEN": TOKEN}))


def test_exemplars_name_the_trace_and_nothing_else(measured):
    with serving(hello()) as client:
        client.get("/hello")
        for _ in range(2):  # the SDK hands an exemplar over once
            text = client.get("/metrics", headers={"accept": OPENMETRICS}).text
            (exemplar,) = (
                sample.exemplar
                for family in strict(text)
                for sample in family.samples
                if sample.exemplar is not None
            )
            (span,) = measured.spans
            assert exemplar.labels == {
                "trace_id": f"{span.context.trace_id:032x}",
                "span_id": f"{span.context.span_id:016x}",
            }
            seconds = (span.end_time - span.start_time) / 1e9
            assert exemplar.value == pytest.approx(seconds, abs=0.01)
        assert "# {" not in client.get("/metrics").text  # the text format has no exemplars


def test_an_application_with_prometheus_fastapi_instrumentator_shows_both(measured):
    from prometheus_fastapi_instrumentator import Instrumentator

    registered = set(REGISTRY._collector_to_names)
    app = hello()
    Instrumentator().instrument(app).expose(app)
    try:
        with serving(app) as client:
            for _ in range(3):
                client.get("/hello")
            page = Page(client.get("/metrics").text)
            text = client.get("/metrics", headers={"accept": OPENMETRICS}).text
        assert page.sum("http_requests_total", handler="/hello") == 3
        assert page.sum("http_server_request_duration_seconds_count", endpoint="/hello") == 3
        assert len(list(strict(text))) > 10
    finally:
        for collector in set(REGISTRY._collector_to_names) - registered:
            REGISTRY.unregister(collector)


@pytest.mark.parametrize("multiprocess", [False, True])
def test_what_the_application_shares_by_prometheus_clients_files_is_on_the_page_once(
    tmp_path, multiprocess
):
    """In a process of its own: prometheus_client reads its variable when it is imported."""
    program = """
import os, httpx
from conftest import serving
from fastapi import FastAPI
from prometheus_client import Counter
from otel_coach.settings import Settings
from otel_coach.testing import measuring

orders = Counter("shop_orders", "Orders")
orders.inc(3)
with measuring(Settings.from_env()), serving(FastAPI()) as client:
    print(client.get("/metrics").text)
"""
    environment = {key: value for key, value in os.environ.items() if "OTEL_" not in key}
    if multiprocess:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
        # Another worker's, that has ended.
        other = "from prometheus_client import Counter; Counter('shop_orders', 'Orders').inc(4)"
        subprocess.run([sys.executable, "-c", other], env=environment, check=True)
    here = Path(__file__).parent
    environment["PYTHONPATH"] = f"{here}{os.pathsep}{here.parent}"
    text = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Page(text).sum("shop_orders_total") == (7 if multiprocess else 3)


def test_no_page_where_prometheus_is_not_asked_for():
    settings = replace(Settings(), metric_exporters=())
    with measuring(settings), serving(hello()) as client:
        assert client.get("/metrics").status_code == 404


def test_the_page_does_not_wait_for_the_applications_threads(measured):
    """All of its threads are busy until the page is there."""
    app, scraped, busy = FastAPI(), threading.Event(), threading.Semaphore(0)

    @app.get("/slow")
    def slow():
        busy.release()
        scraped.wait(30)

    with serving(app) as client:
        sending = [
            threading.Thread(target=httpx.get, args=(f"{client.base_url}/slow",), kwargs=PATIENT)
            for _ in range(45)
        ]
        for thread in sending:
            thread.start()
        for _ in range(40):  # Starlette's threads
            assert busy.acquire(timeout=20)
        assert client.get("/metrics").status_code == 200
        scraped.set()
        for thread in sending:
            thread.join()


def test_a_collector_that_raises_takes_no_page_away(measured, default_registry, caplog):
    from prometheus_client.registry import Collector

    class Broken(Collector):
        def __init__(self):
            REGISTRY.register(self)

        def collect(self):
            raise RuntimeError("postgres://u:hunter2@h")

        def describe(self):
            return []

    default_registry(Broken)
    assert measured.page().samples("otel_coach_errors_total")
    assert "RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


def test_shared_files_that_cannot_be_read_are_no_page_instead_of_counters_that_fell(monkeypatch):
    from prometheus_client.multiprocess import MultiProcessCollector

    from otel_coach.exposition.answer import answer

    def too_many_open_files(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(
        MultiProcessCollector, "__init__", lambda self, registry: registry.register(self)
    )
    monkeypatch.setattr(MultiProcessCollector, "collect", too_many_open_files)
    with measuring(Settings(prometheus_multiprocess=True)) as measured:
        found = answer(measured.installation.page, "")
    assert found.status == 503
    assert b"Too many open files" in found.body


def test_a_flush_of_the_meter_provider_by_the_application_leaves_a_valid_page(measured):
    provider = measured.installation.providers.meter_provider
    with serving(hello()) as client:
        for _ in range(2):
            client.get("/hello")
            assert provider.force_flush()
            provider.force_flush()
            page = Page(client.get("/metrics").text)  # which refuses a family that is there twice
            list(strict(client.get("/metrics", headers={"accept": OPENMETRICS}).text))
    assert page.samples("http_server_request_duration_seconds_count", endpoint="/hello") == [
        ({"endpoint": "/hello", "method": "GET", "status": "200"}, 2)
    ]


def test_after_a_shutdown_of_the_meter_provider_there_is_no_page_without_our_families(caplog):
    with measuring() as measured, serving(hello()) as client:
        client.get("/hello")
        measured.installation.providers.meter_provider.shutdown()
        measured.installation.providers.meter_provider.shutdown()
        assert client.get("/hello").status_code == 200
        answers = [client.get("/metrics") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert "shut the global meter provider down" in answers[0].text
    ours = [record for record in caplog.records if record.name == "otel_coach"]
    assert len([r for r in ours if r.levelname in {"WARNING", "ERROR"}]) == 1


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TEXT_IN_UTF8 = "text/plain;version=1.0.0;escaping=allow-utf-8"


@pytest.mark.skipif(not HAS_UTF8_NAMES, reason="this prometheus_client knows no such names")
@pytest.mark.parametrize(
    ("accept", "line"),
    [
        ("", 'shop_orders_total{kind_of="a"} 2.0'),
        (OPENMETRICS, 'shop_orders_total{kind_of="a"} 2.0'),
        (PROMETHEUS_3, '{"shop.orders_total","kind.of"="a"} 2.0'),
        (TEXT_IN_UTF8, '{"shop.orders_total","kind.of"="a"} 2.0'),
    ],
)
def test_names_in_utf8_keep_their_dots_for_a_scraper_that_asks_for_them(
    measured, default_registry, accept, line
):
    default_registry(Counter, "shop.orders", "Orders", ["kind.of"]).labels("a").inc(2)
    with serving(hello()) as client:
        answer = client.get("/metrics", headers={"accept": accept})
    assert line in answer.text.splitlines()
    assert ("escaping=allow-utf-8" in answer.headers["content-type"]) is (
        "utf-8;q" in accept or accept == TEXT_IN_UTF8
    )
    assert "otel_coach_errors_total{" in answer.text
