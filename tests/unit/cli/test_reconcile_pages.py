"""`otel-coach reconcile --page`: pages of files and of servers, and pairs of them."""

import pytest

from otel_coach.cli.reconciliation import pages
from tests.support import invoices
from tests.support.doctor import hostile, page
from tests.support.invoices import BEGIN, Call, page_text
from tests.support.programs import free_port

USAGE = invoices.openai_usage([Call("gpt-4o-2024-08-06", 100, 50)])


def counted(prompt, completion=0, **more):
    return page_text({"gpt-4o": {"prompt": prompt, "completion": completion}}, **more)


def started(seconds):
    return f"# TYPE process_start_time_seconds gauge\n{seconds}"


def test_the_difference_of_two_pages_counts(reconcile):
    before = page_text(
        {"gpt-4o": {"prompt": 1000, "completion": 500}, "gpt-5": {"prompt": 7}},
        unmeasured=[("gpt-4o", "no_usage", 3)],
    )
    after = page_text(
        {"gpt-4o": {"prompt": 1100, "completion": 550}, "gpt-5": {"prompt": 7}},
        unmeasured=[("gpt-4o", "no_usage", 5)],
    )
    found = reconcile.json(USAGE, page=after, since=before)
    assert found["reconciled"]
    assert [row["model"] for row in found["models"]] == ["gpt-4o"]
    assert found["models"][0]["unmeasured"] == {"no_usage": 2}
    assert found["notes"] == []


def test_a_series_that_is_new_on_the_second_page_counts_from_0(reconcile):
    assert reconcile.json(USAGE, page=counted(100, 50), since=page_text({}))["reconciled"]


@pytest.mark.parametrize(
    "before", [counted(1000, 500), counted(20, 500), page_text({"gpt-5": {"prompt": 7}})]
)
def test_counters_that_were_reset_are_counted_from_0_and_said(reconcile, before):
    found = reconcile.json(USAGE, page=counted(100, 50), since=before)
    assert found["reconciled"]
    (note,) = found["notes"]
    assert "fell between the two pages: the service was started again" in note


def test_a_page_alone_says_that_it_counts_from_the_start(reconcile):
    (note,) = reconcile.json(USAGE, page=counted(100, 50))["notes"]
    assert "counts from the service's start to now" in note
    assert "--since" in note


def test_a_service_that_was_started_after_the_export_begins_is_said(reconcile):
    late = counted(100, 50, more=f"process_start_time_seconds {BEGIN + 60}.0")
    (note,) = reconcile.json(USAGE, page=late)["notes"]
    assert "was started at 2026-11-28 00:01 UTC, after the export begins" in note
    assert "unless this process is a worker that replaced an earlier one" in note
    early = counted(100, 50, more=f"process_start_time_seconds {BEGIN - 60}.0")
    (note,) = reconcile.json(USAGE, page=early)["notes"]
    assert "counts from the service's start" in note


def test_a_page_of_several_workers_is_said(reconcile):
    gauges = [f'queue_length{{queue="a",pid="{pid}"}} 1.0' for pid in (7, 8, 9)]
    gauges += [f'threads{{pid="{pid}"}} 1.0' for pid in (7, 8, 9)]
    found = reconcile.json(USAGE, page=counted(100, 50, more="\n".join(gauges)))
    assert "adds up the figures of 3 workers" in found["notes"][0]
    assert "counts from the service's start to now" in found["notes"][1]


def test_pages_of_several_replicas_are_added_up(reconcile):
    first, second = (reconcile.file(f"page-{n}", counted(n, 25)) for n in (60, 40))
    found = reconcile.json(USAGE, "--page", first, "--page", second)
    assert found["reconciled"]
    assert found["notes"][-1] == "the figures of 2 pages are added up"
    before = [reconcile.file(f"since-{n}", counted(n)) for n in (0, 40)]
    found = reconcile.json(
        USAGE, "--page", first, "--page", second, "--since", before[0], "--since", before[1]
    )
    assert found["total"]["tokens"]["ours"] == 110
    line = reconcile.error(USAGE, "--page", first, "--page", second, "--since", before[0])
    assert "there are 2 --page and 1 --since" in line


def test_a_page_in_the_format_of_openmetrics_is_read(reconcile):
    text = (
        "# HELP agent_llm_tokens Tokens.\n# TYPE agent_llm_tokens counter\n"
        '# UNIT agent_llm_tokens \nagent_llm_tokens_total{mode="prompt",model="gpt-4o"} 150.0 '
        '# {trace_id="0af7651916cd43dd8448eb211c80319c"} 3.0 1.5\n'
        "# TYPE otel_coach_errors counter\n"
        'otel_coach_errors_total{error_type="OSError"} 0.0\n'
        'otel_coach_errors_created{error_type="OSError"} 1.7e9\n# EOF\n'
    )
    assert reconcile.json(USAGE, page=text)["reconciled"]


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("", "none of otel-coach's metrics; save a page of /metrics"),
        ("<html>", "none of otel-coach's metrics"),
        ("# TYPE a counter\na 1\n", "none of otel-coach's metrics"),
        (counted(1) * 2, "each page by itself"),
        (counted("nan"), "is no metrics page that can be read"),
        (counted(-1), "is no metrics page that can be read"),
        (counted(1, more='agent_llm_tokens_total{model="a'), "is no metrics page that can be read"),
        (counted(1, more="agent_llm_tokens_total{} x"), "is no metrics page that can be read"),
        (b"\xff", "no text in UTF-8"),
    ],
)
def test_a_file_that_is_no_page_is_one_line_with_a_cure(reconcile, text, cure):
    assert cure in reconcile.error(USAGE, page=text)
    assert "since.txt" in reconcile.error(USAGE, page=counted(1), since="")


def test_a_page_of_a_server_is_read_and_gets_the_token(reconcile, monkeypatch):
    monkeypatch.setenv("OTEL_COACH_METRICS_TOKEN", "sesame")
    with hostile(page(counted(100, 50))) as (url, asked):
        assert reconcile.json(USAGE, "--page", url)["ours"] == url
    assert b"Authorization: Bearer sesame\r\n" in asked[0]


@pytest.mark.parametrize(
    ("pieces", "cure"),
    [
        (page(""), "not with otel-coach's page"),
        ([b"HTTP/1.1 401 No\r\n\r\n"], "export OTEL_COACH_METRICS_TOKEN"),
        (
            [b"HTTP/1.1 302 Go\r\nlocation: http://x/?k=hunter2\r\n\r\n"],
            "not followed. Cure: --page http://x/",
        ),
        ([b"hello"], "is this its page?"),
    ],
)
def test_a_server_without_a_page_is_one_line_with_a_cure(reconcile, pieces, cure):
    with hostile(pieces) as (url, _):
        line = reconcile.error(USAGE, "--page", url.replace("http://", "http://u:hunter2@"))
    assert cure in line
    assert "hunter2" not in line


def test_a_server_that_is_not_there_or_no_address_is_one_line(reconcile):
    line = reconcile.error(USAGE, "--page", f"http://127.0.0.1:{free_port()}/metrics")
    assert "Connection refused" in line
    line = reconcile.error(USAGE, "--page", "localhost:8000/metrics")
    assert "or an address with http://" in line
    for option in ("--page", "--since"):
        given = ("--page", reconcile.file("p", counted(1))) if option == "--since" else ()
        line = reconcile.error(USAGE, *given, option, "ftp://u:hunter2@h/metrics")
        assert f"{option} takes http://" in line
        assert "hunter2" not in line


def test_a_server_that_drips_is_left(reconcile, monkeypatch):
    monkeypatch.setattr(pages, "MAX_SECONDS", 0.5)
    drips = [b"HTTP/1.1 200 OK\r\n\r\n", *[b"#"] * 200]
    with hostile(drips, pause=0.05) as (url, _):
        assert "within 0.5 s" in reconcile.error(USAGE, "--page", url)
