"""`otel-coach reconcile --prometheus`, against the protocol of its query API."""

import json

import pytest

from otel_coach.cli.reconciliation import prometheus_api
from tests.support import invoices
from tests.support.doctor import hostile
from tests.support.invoices import BEGIN as LONG_AGO
from tests.support.invoices import DAY, Call
from tests.support.programs import free_port
from tests.support.query_api import query_api

BEGIN = LONG_AGO - 10 * DAY
"""The query API is asked for nothing that is later than now."""
STEP = 900


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    monkeypatch.setattr(prometheus_api.time, "time", lambda: BEGIN + 20 * DAY)


def series(name, values, begin=BEGIN - STEP // 4, **labels):
    """A counter that is scraped every quarter of an hour."""
    labels = {"__name__": name, "job": "coach", "instance": "a:8000", **labels}
    return labels, [(begin + place * STEP, value) for place, value in enumerate(values)]


def tokens(values, mode="prompt", **more):
    return series("agent_llm_tokens_total", values, model="gpt-4o", mode=mode, **more)


HERE = series("otel_coach_errors_total", [0] * 97, error_type="OSError")


def usage(prompt, completion=0, days=1):
    call = Call("gpt-4o-2024-08-06", prompt, completion)
    return invoices.openai_usage([call], days, begin=BEGIN)


def found(reconcile, exports, *held, arguments=()):
    with query_api([HERE, *held]) as (url, asked):
        result = reconcile.json(exports, "--prometheus", url, *arguments)
    return result, asked


def ours(result):
    return result["total"]["tokens"]["ours"]


def test_the_exact_rise_in_the_exports_own_time_counts(reconcile):
    # 96 scrapes in the day, the first of them 675 s after it begins; one before, one after it.
    day = tokens([1000 + 3 * place for place in range(98)])
    result, asked = found(reconcile, usage(96 * 3), day)
    assert result["reconciled"]
    assert ours(result) == 288
    assert result["notes"] == []
    assert len(asked) == 5  # what was before, and four times six hours
    assert result["ours"].endswith("2026-11-18 00:00 UTC to 2026-11-19 00:00 UTC")


def test_a_time_that_is_given_is_another_one_and_is_said(reconcile):
    day = tokens([1000 + 3 * place for place in range(98)])
    times = ("--from", "2026-11-18T06:00Z", "--to", str(BEGIN + DAY // 2))
    result, _ = found(reconcile, usage(72), day, arguments=times)
    assert ours(result) == 72
    assert "which is not the time of our figures" in result["notes"][0]


def test_dollars_and_unmeasured_calls_rise_too(reconcile):
    call = Call("gpt-4o-2024-08-06", 96, 0, usd=1)
    exports = [
        invoices.openai_usage([call], begin=BEGIN),
        invoices.openai_costs([call], begin=BEGIN),
    ]
    result, _ = found(
        reconcile,
        exports,
        tokens(range(97)),
        series("agent_llm_cost_usd_total", [5.0] * 50 + [6.0] * 47, model="gpt-4o"),
        series(
            "agent_llm_unmeasured_total", [2] * 9 + [4] * 88, model="gpt-4o", error_type="no_usage"
        ),
        series("otel_coach_label_overflow_total", [1] * 97, error_type="model"),
    )
    assert result["reconciled"]
    assert result["models"][0]["unmeasured"] == {"no_usage": 2}
    assert result["notes"] == []


def test_counters_that_were_reset_are_counted_on_from_0_and_said(reconcile):
    restarted = tokens([100, 110, 5, 6, 7, 3, *[4] * 91])
    result, _ = found(reconcile, usage(21), restarted)
    assert ours(result) == 10 + 5 + 2 + 3 + 1
    (note,) = result["notes"]
    assert note.startswith("1 series fell in this time")


def test_a_counter_that_begins_in_this_time_counts_from_0_and_is_said(reconcile):
    result, _ = found(reconcile, usage(40), tokens([30, 40, 40], begin=BEGIN + 4 * STEP))
    assert ours(result) == 40
    (note,) = result["notes"]
    assert note.startswith("1 series have no sample in the 5 minutes before this time")


def test_a_counter_that_ends_in_this_time_keeps_its_rise(reconcile):
    result, _ = found(reconcile, usage(20), tokens([10, 20, 30]))
    assert ours(result) == 20


def test_instances_are_added_up_and_jobs_can_be_chosen(reconcile):
    held = [
        tokens([0, 50, *[60] * 95]),
        tokens([7, 7, *[47] * 95], instance="b:8000"),
        tokens([0, 50, *[60] * 95], job="coach-by-collector"),
    ]
    result, _ = found(reconcile, usage(100), *held)
    assert ours(result) == 160
    assert "the figures of 2 jobs are added up (coach, coach-by-collector)" in result["notes"][0]
    assert "--selector 'job=\"coach\"'" in result["notes"][0]
    for selector in ('job="coach"', '{job="coach"}'):
        result, _ = found(reconcile, usage(100), *held, arguments=("--selector", selector))
        assert result["reconciled"]
        assert result["notes"] == ["the figures of 2 instances are added up"]


def test_what_is_still_to_come_is_not_asked_for(reconcile, monkeypatch):
    monkeypatch.setattr(prometheus_api.time, "time", lambda: BEGIN + 3600.0)
    result, asked = found(reconcile, usage(4), tokens(range(5)))
    assert ours(result) == 4
    assert len(asked) == 2


def test_a_user_and_password_are_sent_and_not_shown_and_the_pages_token_is_not_sent(
    reconcile, monkeypatch
):
    monkeypatch.setenv("OTEL_COACH_METRICS_TOKEN", "sesame")
    with query_api([HERE, tokens(range(97))]) as (url, asked):
        secret = url.replace("http://", "http://u:hunter2@")
        _, shown, _ = reconcile(usage(96), "--prometheus", secret)
    assert {headers["Authorization"] for _, headers in asked} == {"Basic dTpodW50ZXIy"}
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("status", "body", "cure"),
    [
        (404, b"404 page not found", "404 and no JSON; give --prometheus the address"),
        (200, b"<html>", "200 and no JSON"),
        (200, b"[]", "200 and no JSON"),
        (
            400,
            json.dumps({"status": "error", "error": "parse error\x1b[31m"}).encode(),
            "400: parse error\\x1b[31m; give",
        ),
        (200, b'{"status": "success"}', "cannot be read (KeyError); does Prometheus run there?"),
        (200, b'{"status": "success", "data": {"result": [1]}}', "cannot be read (TypeError)"),
        (
            200,
            b'{"status":"success","data":{"result":[{"metric":{},"values":[[1,"NaN"]]}]}}',
            "cannot be read (ValueError)",
        ),
    ],
)
def test_an_answer_that_is_none_is_one_line_with_a_cure(reconcile, status, body, cure):
    with query_api([], status=status, body=body) as (url, _):
        line = reconcile.error(usage(1), "--prometheus", url)
    assert cure in line
    assert line.isprintable()


def test_a_prometheus_without_our_metrics_says_so(reconcile):
    with query_api([]) as (url, _):
        line = reconcile.error(usage(1), "--prometheus", url, "--selector", 'job="x"')
    assert 'has no metrics of otel-coach with job="x" from 2026-11-18' in line
    assert "does it scrape the service" in line


@pytest.mark.parametrize(
    ("times", "cure"),
    [
        (("--from", "2026-11-19", "--to", "2026-11-18"), "--from comes before --to"),
        (("--from", "2030-01-01", "--to", "2030-01-02"), "both before now"),
        (("--from", "2020-01-01"), "export at most 100 days at once"),
    ],
)
def test_a_time_that_cannot_be_asked_for_says_why(reconcile, times, cure):
    line = reconcile.error(usage(1), "--prometheus", "http://127.0.0.1:1", *times)
    assert cure in line


def test_addresses_that_cannot_be_read_are_one_line(reconcile, monkeypatch):
    line = reconcile.error(usage(1), "--prometheus", f"http://127.0.0.1:{free_port()}")
    assert "Connection refused); does Prometheus run there?" in line
    line = reconcile.error(usage(1), "--prometheus", "file:///etc/passwd")
    assert "--prometheus takes http://" in line
    line = reconcile.error(usage(1), "--prometheus", "localhost:9090")
    assert "Cure: --prometheus http://localhost:9090 # " in line
    assert "/metrics" not in line
    for address in ("http://u:hunter2@[::1/", "u:hunter2@127.0.0.1:9090", "ftp://u:hunter2@h"):
        assert "hunter2" not in reconcile.error(usage(1), "--prometheus", address)
    monkeypatch.setattr(prometheus_api, "MAX_SECONDS", 0.5)
    with hostile([b"HTTP/1.1 200 OK\r\n\r\n", *[b" "] * 200], pause=0.05) as (url, _):
        assert "within 0.5 s" in reconcile.error(usage(1), "--prometheus", url)
    monkeypatch.undo()


def test_an_answer_without_end_is_left(reconcile, monkeypatch):
    monkeypatch.setattr(prometheus_api, "MAX_BYTES", 1 << 20)
    with query_api([], body=b" " * (2 << 20)) as (url, _):
        line = reconcile.error(usage(1), "--prometheus", url)
    assert "more than 1 MB; name the service's job with --selector" in line
