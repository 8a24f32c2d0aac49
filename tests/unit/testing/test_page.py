"""Questions to a page: wrong names are errors with a suggestion, never 0."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from otel_coach.testing import Page

TEXT = """\
# TYPE agent_llm_requests_total counter
agent_llm_requests_total{model="gpt-4o",mode="invoke",status="ok",error_type="none"} 2.0
# TYPE jobs_total counter
jobs_total{queue="mail"} 3.0
# TYPE idle gauge
idle 0
"""


@pytest.fixture
def page():
    return Page(TEXT)


def test_what_is_there_and_what_could_be_there_is_a_number(page):
    assert page.sum("agent_llm_requests_total", status="ok") == 2
    assert page.sum("agent_llm_requests_total", status="error") == 0
    assert page.sum("agent_tool_calls_total", tool_name="weather") == 0
    assert page.sum("agent_llm_latency_seconds_bucket", le="0.5") == 0
    assert page.sum("jobs_total", queue="mail") == 3


@pytest.mark.parametrize(
    ("name", "labels", "line"),
    [
        (
            "agent_llm_request_total",
            {},
            "there is no metric agent_llm_request_total; perhaps agent_llm_requests_total is meant",
        ),
        ("job_total", {}, "there is no metric job_total; perhaps jobs_total is meant"),
        ("nothing_like_it_at_all", {}, "there is no metric nothing_like_it_at_all"),
        (
            "agent_llm_latency_seconds",
            {},
            (
                "agent_llm_latency_seconds is a histogram; its samples are "
                "agent_llm_latency_seconds_bucket or agent_llm_latency_seconds_count or "
                "agent_llm_latency_seconds_sum"
            ),
        ),
        (
            "agent_llm_requests_total",
            {"stat": "ok"},
            "agent_llm_requests_total has no label stat; perhaps status is meant",
        ),
        (
            "agent_tool_calls_total",
            {"zzz": "weather"},
            "agent_tool_calls_total has no label zzz; it has error_type, status, tool_name",
        ),
        ("idle", {"que": "mail"}, "idle has no label que; it has no labels"),
        (
            "otel_coach_price_list_age_days",
            {"bogus": "x"},
            "otel_coach_price_list_age_days has no label bogus; it has no labels",
        ),
        ("jobs_total", {"que": "mail"}, "jobs_total has no label que; perhaps queue is meant"),
    ],
)
@pytest.mark.parametrize("question", [Page.sum, Page.samples])
def test_a_wrong_name_is_an_error_that_names_the_right_one(page, question, name, labels, line):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        question(page, name, **labels)
    assert str(error.value) == line


def test_a_label_may_be_called_name():
    page = Page('# TYPE a_total counter\na_total{name="x"} 1\na_total{name="y"} 2\n')
    assert page.sum("a_total", name="y") == 2
    assert page.samples("a_total", name="x") == [({"name": "x"}, 1)]


def test_a_page_shows_what_is_not_zero(page):
    assert repr(page) == (
        "<Page of 3 families; not 0 are:\n"
        '  agent_llm_requests_total{model="gpt-4o", mode="invoke", status="ok", error_type="none"}'
        " 2\n"
        '  jobs_total{queue="mail"} 3>'
    )


def test_the_representation_of_a_large_page_is_bounded():
    lines = "".join(f'jobs_total{{queue="{number}"}} 1.0\n' for number in range(1, 1001))
    text = repr(Page(f"# TYPE jobs_total counter\n{lines}"))
    assert len(text.splitlines()) == 22
    assert text.endswith("  and 980 more>")


def test_measured_shows_its_page_and_how_many_spans_it_has(measured):
    app = FastAPI()

    @app.get("/")
    def root():
        return "hi"

    TestClient(app).get("/")
    assert repr(measured).startswith("<Measured: 1 spans, <Page of ")
    assert 'http_server_request_duration_seconds_count{endpoint="/"' in repr(measured)
