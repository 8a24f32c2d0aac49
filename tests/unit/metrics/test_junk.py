"""What strangers send first takes nothing from what the application declares."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_coach.metrics.cardinality import Budgets
from otel_coach.metrics.catalogue import (
    AI_REQUEST_DURATION,
    LLM_REQUESTS,
    TOOL_CALLS,
)
from otel_coach.metrics.catalogue import HTTP_REQUEST_DURATION as HTTP
from otel_coach.testing import measuring
from otel_coach.workers.append_log import SharedLog
from tests.support.junk import METHODS, assert_within_the_worst_case, settings

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
        if f"count_{number}_total" in page.names:
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
    workers[0].take_lines("before", (), 18)
    for worker in workers:
        worker.share(SharedLog(tmp_path / "log"))
    has = {
        (name, value)
        for value in range(9)
        for place, worker in enumerate(workers)
        if worker.take_lines(name := f"of.{place % 2}", (str(value),), 9)
    }
    assert len(has) == (100 - 18) // 9
    late = Budgets({"instrument_lines": 100})
    late.share(SharedLog(tmp_path / "log"))
    assert all(late.take_lines(name, (str(value),), 9) for name, value in has)
    assert late.take_lines("before", (), 18)
    assert not late.take_lines("new", (), 9)
    assert late.take_lines("new", (), 1)
