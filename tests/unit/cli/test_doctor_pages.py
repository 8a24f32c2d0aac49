"""What the page of a running service says, planted: pages by hand, and otel-coach's own."""

import time
from email.utils import formatdate

import pytest

from otel_coach.cli.doctor import fetch, service
from otel_coach.core.page_comments import BUDGETS
from otel_coach.core.traps import Severity
from otel_coach.metrics.labels import DEFAULT_BUDGETS, DEFAULT_SIZES
from tests.support.doctor import ERRORS, examined, findings, hostile, page, text_of
from tests.support.programs import free_port

OURS = f'# TYPE {ERRORS} counter\n{ERRORS}{{error_type="OSError"}} 0\n'


def looked(pieces, **environ):
    """The findings about the page that a server sends."""
    with hostile(pieces) as (url, _):
        return [*findings(service.look(examined(**environ), url))]


def only(pieces, name, **environ):
    (finding,) = looked(pieces, **environ)
    assert finding.trap.name == name
    return text_of(finding)


def answer(status, *headers, body=""):
    head = "".join(f"{header}\r\n" for header in headers)
    return [f"HTTP/1.1 {status} X\r\n{head}\r\n{body}".encode()]


def ours(text=""):
    return page(OURS + text)


# No page


def test_nothing_listens_there():
    (finding,) = findings(service.look(examined(), f"http://127.0.0.1:{free_port()}/metrics"))
    assert finding.trap.name == "page-unreachable"
    assert "Connection refused" in finding.what


def test_a_page_that_takes_its_time_is_read(monkeypatch):
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.2)  # to connect, not to answer
    with hostile([b"", *ours()], pause=0.5) as (url, _):
        assert not [*findings(service.look(examined(), url))]


def test_an_address_that_is_none():
    (finding,) = findings(service.look(examined(), "localhost:8000/metrics"))
    assert finding.trap.name == "page-address"
    assert "http://localhost:8000/metrics" in finding.cure


@pytest.mark.parametrize("status", [401, 403])
def test_the_token_is_missing_or_another(status):
    told = only(answer(status), "token-missing")
    assert f"answers with {status}" in told
    assert "export OTEL_COACH_METRICS_TOKEN=" in told
    told = only(answer(status), "token-wrong", OTEL_COACH_METRICS_TOKEN="sesame")
    assert "sesame" not in told


def test_404_says_how_it_may_have_been_started():
    told = only(answer(404), "page-missing")
    assert "/metrics answers with 404: there is no page at this address; opentel" in told
    assert "opentelemetry-instrument uvicorn app:app # or name the page's path" in told
    assert "?" not in told
    assert "OTEL_EXPORTER_PROMETHEUS_PORT" in told


def test_404_of_an_address_without_the_pages_path_suggests_it():
    for path in ("", "/", "/metric"):
        with hostile(answer(404)) as (url, _):
            place = url.replace("/metrics", path)
            (finding,) = findings(service.look(examined(), place))
        assert finding.cure.startswith(f"--url {place.rstrip('/')}/metrics # ")


def test_a_redirection_says_where_to():
    told = only(answer(302, "location: https://elsewhere/metrics"), "page-redirected")
    assert "--url https://elsewhere/metrics" in told


def test_503_says_what_the_service_says():
    told = only(answer(503, body="otel-coach: not all figures can be read"), "page-unavailable")
    assert "not all figures can be read" in told


def test_421_says_that_only_its_machine_is_served():
    assert "OTEL_EXPORTER_PROMETHEUS_HOST" in only(answer(421), "page-local-only")


def test_another_status():
    assert "answers with 500" in only(answer(500), "page-status")


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        ("<!DOCTYPE html><html>sign in</html>", "text/html", "HTML"),
        ('{"status": "up"}', "application/json", "JSON"),
        ('"up"', "application/json; charset=utf-8", "JSON"),
        ("pong", "text/plain", "text/plain"),
        ("", "text/plain", "nothing"),
    ],
)
def test_what_is_no_metrics_page_is_said_to_be_what_it_is(body, content_type, kind):
    told = only(answer(200, f"content-type: {content_type}", body=body), "not-a-metrics-page")
    assert f"but with {kind}, which is not" in told


def test_somebody_elses_metrics_page_says_what_it_has():
    text = "# TYPE go_goroutines gauge\ngo_goroutines 8\n# TYPE up gauge\nup 1\n"
    told = only(page(text), "page-of-others")
    assert "it has go_goroutines, up" in told


# What it says


def test_a_page_of_ours_on_which_nothing_is_wrong():
    assert looked(ours()) == []


def test_workers_that_do_not_share_by_the_pages_own_comments():
    from otel_coach.core.page_comments import ALONE, HIDDEN, STALE

    assert "worker 4711 only" in only(ours(ALONE % 4711), "workers-not-sharing")
    assert "worker 4712" in only(ours(STALE % 4712), "worker-stale")
    assert "family named my_jobs" in only(ours(HIDDEN % "my_jobs"), "family-hidden")


def test_the_comments_are_those_of_the_page(measured, monkeypatch):
    import os

    text = measured.page().text
    measured.installation.page.show_one_of_many()
    text = measured.page().text
    assert f"worker {os.getpid()} only" in only(page(text), "workers-not-sharing")


def unmeasured(kind):
    name = "agent_llm_unmeasured_total"
    return ours(
        f'{name}{{model="none",error_type="{kind}"}} 0\n'
        f'{name}{{model="my-model",error_type="{kind}"}} 3\n'
    )


def test_models_without_a_price():
    told = only(unmeasured("no_price"), "model-without-price")
    assert "3 calls of my-model without a price" in told
    assert '{"my-model": {"input_mtok": 1.0' in told
    assert "OTEL_COACH_PRICES" in told


def test_a_model_without_a_name_and_price():
    name = "agent_llm_unmeasured_total"
    told = only(ours(f'{name}{{model="none",error_type="no_price"}} 3\n'), "model-without-price")
    assert "3 calls of a model without a name without a price" in told
    assert "otel-coach prices none #" in told
    assert '{"none": {"input_mtok": 1.0' in told


def test_streams_without_usage():
    told = only(unmeasured("no_usage"), "stream-without-usage")
    assert "3 calls of my-model without usage" in told
    assert "stream_usage=True" in told
    assert 'stream_options={"include_usage": True}' in told
    assert "one that was left, or that broke, has told no usage yet" in told


def test_calls_that_are_unmeasured_for_a_reason_of_a_later_version():
    told = only(unmeasured("batch_fee"), "calls-unmeasured")
    assert "batch_fee" in told
    assert "pip install --upgrade otel-coach" in told


def test_calls_that_are_paid_by_more_than_tokens():
    assert "otel-coach reconcile" in only(unmeasured("extra_fee"), "extra-fee")


def requests(count):
    name = "agent_llm_latency_seconds_count"
    return "".join(f'{name}{{model="m{number}",status="ok"}} 1\n' for number in range(count))


@pytest.mark.parametrize(("used", "size"), [(16, 20), (4, 5), (5, 5)])
def test_a_budget_that_is_nearly_full_says_which_and_its_variable(used, size):
    text = f"{requests(used)}{BUDGETS % f'endpoint=7 model={size}'}"
    # The doctor's environment is another one than the service's.
    told = only(ours(text), "budget-nearly-full", OTEL_COACH_BUDGET_MODEL="1000")
    assert f"{used} of {size} values of label model" in told
    assert f"export OTEL_COACH_BUDGET_MODEL={2 * size}" in told


@pytest.mark.parametrize("value", ["model=0", "model=-1", "model=99999999999", "x=1", "model", ""])
def test_a_comment_about_budgets_that_cannot_be_is_ignored(value):
    assert "16 of 20" in only(ours(requests(16) + BUDGETS % value), "budget-nearly-full")


def test_a_budget_with_room_is_right_and_our_own_values_take_none():
    assert looked(ours(requests(15))) == []
    name = "agent_llm_latency_seconds_count"
    own = "".join(f'{name}{{model="{model}",status="ok"}} 1\n' for model in ("other", "none"))
    assert looked(ours(requests(15) + own)) == []


def test_the_combinations_of_labels_have_a_budget_too():
    rows = "".join(
        f'agent_tool_calls_total{{tool_name="t{n % 10}",status="ok",error_type="E{n // 10}"}} 1\n'
        for n in range(85)
    )
    told = only(ours(rows + BUDGETS % "label_set=100"), "budget-nearly-full")
    assert "85 of 100 values of the label combinations of agent_tool_calls_total" in told
    assert "export OTEL_COACH_BUDGET_LABEL_SET=200" in told


def test_combinations_that_have_places_of_their_own_do_not_fill_that_budget():
    """Closed metrics ask for no place; each route's method has places of its own."""
    fixed = "".join(
        f'otel_coach_label_overflow_total{{error_type="{kind}"}} 0\n' for kind in DEFAULT_SIZES
    )
    assert looked(ours(fixed + BUDGETS % "label_set=10")) == []
    name = "http_server_request_duration_seconds_count"
    routes = "".join(
        f'{name}{{endpoint="/r{n}",method="GET",status="{status}"}} 1\n'
        for n in range(100)
        for status in (200, 404, 422, 500)
    )
    assert looked(ours(routes + BUDGETS % "endpoint=200 label_set=400")) == []


@pytest.mark.parametrize("label", ["model", "endpoint", "label_set"])
def test_an_overflow_has_the_words_of_the_log(label):
    from otel_coach.metrics.cardinality import overflow_text

    text = f'otel_coach_label_overflow_total{{error_type="{label}"}} 7\n'
    told = only(ours(text), "budget-overflow")
    assert overflow_text(label) in told
    size = {**DEFAULT_BUDGETS, "label_set": 1000}[label]
    assert f"export OTEL_COACH_BUDGET_{label.upper()}={2 * size}" in told


def test_an_overflow_of_an_admitted_label_names_the_variable_that_admits_it():
    text = 'otel_coach_label_overflow_total{error_type="other"} 7\n'
    told = only(ours(text), "budget-overflow")
    assert "export OTEL_COACH_ADMIT_LABELS=INSTRUMENT:LABEL:N" in told
    assert "OTEL_COACH_BUDGET_" not in told


def test_an_overflow_of_something_unknown_is_said_all_the_same():
    text = 'otel_coach_label_overflow_total{error_type="x"} 7\n'
    assert "OTEL_COACH_BUDGET_" in only(ours(text), "budget-overflow")


@pytest.mark.parametrize(
    ("kind", "cure"),
    [("spans_queue_full", "OTEL_TRACES_SAMPLER"), ("spans_export", "sends a real export")],
)
def test_lost_telemetry_says_where(kind, cure):
    told = only(ours(f'otel_coach_lost_total{{error_type="{kind}"}} 9\n'), "telemetry-lost")
    assert f"error_type={kind}: 9" in told
    assert cure in told


def test_faults_that_were_swallowed():
    told = only(ours(f'{ERRORS}{{error_type="KeyError"}} 1\n'), "own-faults")
    assert "error_type=KeyError: 1" in told


def test_a_dependency_that_the_service_saw_down():
    text = 'dependency_up{dependency_name="pg"} 0\ndependency_up{dependency_name="cache"} 1\n'
    told = only(ours(text), "dependency-seen-down")
    assert "dependency pg failed" in told
    assert "; grep 'is down' SERVICE.LOG # the service's log names the exception" in told
    told = only(ours(text), "dependency-seen-down", OTEL_COACH_DEPENDENCIES="pg=tcp://h:1")
    assert "; otel-coach doctor # in the service's environment: it says why" in told


def test_one_call_is_one():
    text = 'agent_llm_unmeasured_total{model="m",error_type="no_price"} 1\n'
    assert ": 1 call of m without a price: " in only(ours(text), "model-without-price")


def test_a_list_of_prices_that_the_service_uses_and_is_old():
    text = "otel_coach_price_list_age_days 120\n"
    (finding,) = looked(ours(text))
    assert finding.trap.name == "price-list-old"
    assert finding.trap.severity is Severity.NOTE


def test_more_findings_than_are_shown():
    rows = "".join(f'{ERRORS}{{error_type="E{n}"}} 1\n' for n in range(120))
    found = looked(ours(rows))
    assert found[-1].trap.name == "more-findings"
    assert len(found) == 101


# Its clock


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(3600, "ahead of"), (-3600, "behind"), (-90, "behind"), (0, None), (2, None)],
)
def test_a_clock_that_differs_is_told(seconds, told):
    date = f"date: {formatdate(time.time() + seconds, usegmt=True)}"
    found = looked(answer(200, date, body=OURS))
    assert [finding.trap.name for finding in found] == (["clock-skew"] if told else [])
    assert told is None or told in found[0].what


def test_a_clock_that_is_not_readable_is_none():
    for date in ("date: soon", "date: Mon, 99 Jan 2026 00:00:00 GMT", "date: 1"):
        assert looked(answer(200, date, body=OURS)) == []


# It is untrusted


@pytest.mark.parametrize(
    "line",
    [
        ERRORS + '{error_type="' + "\\" * 20_000,
        ERRORS + "{" + 'a="b",' * 20_000,
        ERRORS + "{" + 'a="' * 20_000,
        "# otel-coach: worker " + "x" * 100_000,
        "a" * 1_000_000,
    ],
    ids=range(5),
)
def test_a_line_that_is_made_to_take_long_does_not(line):
    started = time.monotonic()
    assert looked(ours(f"{line}\n" * 3)) == []
    assert time.monotonic() - started < 5


def test_values_are_unescaped_as_prometheus_writes_them():
    (sample,) = service.samples('a{b="x\\"y\\\\z\\n"} 1')
    assert sample.labels == {"b": 'x"y\\z\n'}
    first, second = service.samples("a 1 1700000000\nb NaN\nc\nd x\n")
    assert (first.value, second.name) == (1, "b")
