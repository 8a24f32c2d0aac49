"""The page in a real browser: what it shows is what the plain page says."""

import httpx
import pytest

from tests.support.chromium import Seen, browser
from tests.support.small_service import HTTP, send_one_of_each, small_service

pytestmark = pytest.mark.skipif(browser() is None, reason="needs Chromium: apt install chromium")

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TOKEN = {"OTEL_COACH_METRICS_TOKEN": "a-token"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_a_browser_shows_the_figures_of_the_plain_page_and_asks_nobody_else(tmp_path, folder):
    with small_service(tmp_path) as service:
        send_one_of_each(service)
        page = service.page()
        url = f"{service.client.base_url}/metrics"
        seen = Seen(url, folder)
    http = seen.tables["HTTP requests"]
    assert {name for name in http if name != "/health"} == {
        *("/ask/{name}", "/broken", "/refuse", "/stream", "unmatched")
    }
    for name, row in http.items():
        assert float(row["all"]) == page.sum(HTTP, endpoint=name)
    assert http["/broken"]["5xx"] == "1"
    assert (http["/refuse"]["4xx"], http["/refuse"]["401, 403"]) == ("1", "1")
    stream = seen.tables["AI requests"]["/stream"]
    assert (stream["ok"], stream["aborted"], stream["error"]) == ("1", "1", "0")
    assert float(seen.tables["Models"]["none"]["calls"]) == page.sum("agent_llm_requests_total")
    assert seen.cards["401, 403"] == "1"
    assert seen.state.startswith("rates and quantiles of the last ")
    origin = url.removesuffix("metrics")  # the log names it beside each request
    assert seen.requests == {url, origin}


def test_without_the_token_the_browser_asks_for_it_and_shows_no_figure(tmp_path, folder):
    with small_service(tmp_path, **TOKEN) as service:
        url = f"{service.client.base_url}/metrics"
        answer = service.client.get("/metrics", headers=HTML)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "small_app" not in answer.text
        seen = Seen(url, folder)
    assert seen.state == "a token is needed"
    assert 'id="token" hidden' not in seen.html
    assert not seen.tables


def test_no_scraper_gets_html_and_no_proxy_keeps_it(tmp_path):
    with small_service(tmp_path) as service:
        for accept in ("*/*", "text/plain", "application/openmetrics-text", "text/html;q=0"):
            answer = service.client.get("/metrics", headers={"accept": accept})
            assert not answer.headers["content-type"].startswith("text/html")
        answer = service.client.get("/metrics", headers=HTML)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "accept" in answer.headers["vary"]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace(
        "http_server_request_duration_seconds", ""
    ).replace("http_", "")


def test_an_application_with_a_page_of_its_own_keeps_it_for_browsers_too(tmp_path):
    with small_service(tmp_path, SMALL_APP="own page") as service:
        answer = service.client.get("/metrics/", headers=HTML)
    assert answer.headers["content-type"].startswith("text/plain")


def test_the_own_port_shows_it_too(tmp_path):
    from tests.support.programs import free_port

    port = str(free_port())
    with small_service(tmp_path, OTEL_EXPORTER_PROMETHEUS_PORT=port, **TOKEN):
        url = f"http://localhost:{port}/metrics"
        assert httpx.get(url, headers=HTML).status_code == 401
        allowed = {**HTML, "authorization": "Bearer a-token"}
        answer = httpx.get(url, headers=allowed)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
