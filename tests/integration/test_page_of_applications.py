"""The page's port and token, and other people's families on it, over HTTP."""

import os
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict

from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from tests.support.exposition import hello
from tests.support.paths import ROOT
from tests.support.programs import free_port
from tests.support.serving import serving
from tests.support.versions import HAS_UTF8_NAMES

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PATIENT = {"timeout": 60}


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
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.text == (
                "otel-coach: this page needs the header `Authorization: Bearer TOKEN`, with the "
                "OTEL_COACH_METRICS_TOKEN of the service\n"
            )
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
from tests.support.serving import serving
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
    environment["PYTHONPATH"] = str(ROOT)
    text = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Page(text).sum("shop_orders_total") == (7 if multiprocess else 3)


def test_where_prometheus_clients_folder_is_missing_the_page_has_all_but_its_metrics(
    tmp_path, caplog
):
    folder = tmp_path / "missing"
    settings = Settings.from_env({"PROMETHEUS_MULTIPROC_DIR": str(folder)})
    with measuring(settings), serving(hello()) as client:
        for _ in range(2):
            page = Page(client.get("/metrics").raise_for_status().text)
        assert page.sum("otel_coach_errors_total") == 0
    (line,) = [row.getMessage() for row in caplog.records if "MULTIPROC" in row.getMessage()]
    assert f"PROMETHEUS_MULTIPROC_DIR={folder} is no folder" in line
    assert f"Cure: mkdir -p {folder}" in line


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
