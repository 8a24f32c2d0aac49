"""The page in a real browser: what it shows is what the plain page says."""

import re

import httpx
import pytest

from tests.support.chromium import asked_for, browser, chromium
from tests.support.overview_truth import FIGURES, differences
from tests.support.page_port import served
from tests.support.programs import free_port
from tests.support.small_service import plain_service, send_one_of_each, small_service
from tests.support.waiting import eventually
from tests.support.whole_pages import Drawn, Pages

needs_browser = pytest.mark.skipif(browser() is None, reason="needs Chromium: apt install chromium")
HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TOKEN = {"OTEL_COACH_METRICS_TOKEN": "a-token"}


@pytest.fixture(scope="module")
def new_tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def seconds_in(shown):
    found = re.search(r"of the last (\d+) s", shown["window"])
    return int(found[1]) if found else 0


def figures_in(shown):
    return {"Service": {"": shown["cards"]}, **shown["tables"]}


def after(tab, seconds):
    """What is shown when rates are those of at least so many seconds."""
    seen = []

    def is_there():
        seen.append(tab.shown)
        return seconds_in(seen[-1]) >= seconds

    eventually(is_there)
    return seen[-1]


@needs_browser
def test_every_figure_in_a_browser_is_that_of_the_plain_page(new_tab):
    drawn = Drawn(seed=5)
    before, now = drawn.page(), drawn.page()
    with served(Pages(before, now)) as port, new_tab() as tab:
        tab.open(f"http://127.0.0.1:{port}/metrics")
        shown = after(tab, seconds=3)
    figures = figures_in(shown)
    assert figures.keys() == FIGURES.keys()
    assert not differences(figures, now, before, seconds_in(shown))


@needs_browser
def test_a_browser_shows_the_figures_of_a_service_and_asks_nobody_else(tmp_path):
    with small_service(tmp_path) as service:
        send_one_of_each(service)
        page = service.page()
        url = f"{service.client.base_url}/metrics"
        with chromium(tmp_path) as new_tab, new_tab(private=False) as tab:
            tab.open(url)
            shown = after(tab, seconds=2)
            requests = tab.requests
    assert not differences(figures_in(shown), page.text, page.text, seconds_in(shown))
    assert shown["tables"]["AI requests"]["/stream"]["aborted"] == "1"
    assert requests == {url}
    origin = url.removesuffix("metrics")  # the log names it beside each request
    assert asked_for(tmp_path) == {url, origin}


@needs_browser
def test_the_sparklines_are_the_values_of_the_pages(new_tab):
    drawn = Drawn(seed=6)
    pages = [drawn.page() for _ in range(3)]
    with served(Pages(*pages)) as port, new_tab() as tab:
        tab.open(f"http://127.0.0.1:{port}/metrics")
        script = """
        Object.fromEntries([...document.querySelectorAll("dl div")].map(box => [
            box.querySelector("dt").textContent,
            box.querySelector("polyline").getAttribute("points")]))
        """
        eventually(lambda: len((tab.js(script).get("streams open") or "").split()) >= 4)
        drawn_lines = tab.js(script)
        heights = "[...document.querySelectorAll('svg')].map(svg => svg.clientHeight)"
        assert min(tab.js(heights)) > 9
    for title, pattern in (
        ("streams open", r"app_ai_streams_active\{.*\} (.*)"),
        ("429", r"rate_limit_hits_total\{.*\} (.*)"),
    ):
        values = [sum(map(float, re.findall(pattern, page))) for page in pages]
        points = [tuple(map(float, one.split(","))) for one in drawn_lines[title].split()]
        assert [x for x, _ in points] == sorted(x for x, _ in points)
        heights = [19 - y for _, y in points]
        assert max(heights) == pytest.approx(18)
        assert heights[:3] == pytest.approx([18 * value / max(values) for value in values])


@needs_browser
def test_with_a_token_the_browser_asks_for_it_and_keeps_it_nowhere(new_tab):
    page = Drawn(seed=7).page()
    with served(Pages(page), token="a-tökén") as port, new_tab() as tab:
        url = f"http://127.0.0.1:{port}/metrics"
        assert "small_app" not in httpx.get(url, headers=HTML).text
        tab.open(url)
        eventually(lambda: tab.shown["state"] == "a token is needed")
        assert tab.shown["tables"] == {}
        tab.js("document.querySelector('input').focus()")
        tab.type("another")
        tab.press("Enter")
        eventually(lambda: tab.shown["state"] == "this token is not accepted")
        tab.js("document.querySelector('input').value = ''")
        tab.type("a-tökén")
        tab.press("Enter")
        shown = after(tab, seconds=2)
        assert shown["state"] == ""
        assert not differences(figures_in(shown), page, page, seconds_in(shown))
        assert not tab.js("document.querySelector('form').checkVisibility()")
        assert tab.js("document.activeElement.id") == "sections"
        assert tab.js("localStorage.length + sessionStorage.length + document.cookie.length") == 0
        assert "token" not in tab.js("location.href")
        tab.js("document.querySelector('#plain').focus()")
        tab.press("Enter")  # a link sends no token: what was read last is shown
        eventually(lambda: tab.js("document.contentType") == "text/plain")
        assert tab.js("document.body.innerText").strip() == page.strip()


@needs_browser
def test_a_link_leads_to_the_plain_page(new_tab):
    page = Drawn(seed=8).page()
    with served(Pages(page)) as port, new_tab() as tab:
        tab.open(f"http://127.0.0.1:{port}/metrics")
        tab.js("document.querySelector('#plain').focus()")
        tab.press("Enter")
        eventually(lambda: tab.js("document.contentType") == "text/plain")
        assert tab.js("document.body.innerText").strip() == page.strip()


def test_without_the_token_a_browser_gets_no_figure(tmp_path):
    with plain_service(tmp_path, **TOKEN) as service:
        answer = service.client.get("/metrics", headers=HTML)
        plain = service.client.get("/metrics?plain", headers=HTML)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "/health" not in answer.text
    assert (plain.status_code, "http_server" in plain.text) == (401, False)


def test_no_scraper_gets_html_and_no_proxy_keeps_it(tmp_path):
    with plain_service(tmp_path) as service:
        for accept in ("*/*", "text/plain", "application/openmetrics-text", "text/html;q=0"):
            answer = service.client.get("/metrics", headers={"accept": accept})
            assert not answer.headers["content-type"].startswith("text/html")
        plain = service.client.get("/metrics?plain", headers=HTML)
        answer = service.client.get("/metrics?other", headers=HTML)
    assert plain.headers["content-type"].startswith("text/plain")
    assert "http_server_request_duration_seconds" in plain.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "accept" in answer.headers["vary"]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace(
        "http_server_request_duration_seconds", ""
    ).replace("http_", "")


def test_an_application_with_a_page_of_its_own_keeps_it_for_browsers_too(tmp_path):
    with plain_service(tmp_path, SMALL_APP="own page") as service:
        answer = service.client.get("/metrics/", headers=HTML)
    assert answer.headers["content-type"].startswith("text/plain")


def test_the_own_port_shows_it_too(tmp_path):
    port = str(free_port())
    with plain_service(tmp_path, OTEL_EXPORTER_PROMETHEUS_PORT=port, **TOKEN):
        url = f"http://localhost:{port}/metrics"
        assert httpx.get(url, headers=HTML).status_code == 401
        allowed = {**HTML, "authorization": "Bearer a-token"}
        answer = httpx.get(url, headers=allowed)
        plain = httpx.get(f"{url}?plain", headers=allowed)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert plain.headers["content-type"].startswith("text/plain")
