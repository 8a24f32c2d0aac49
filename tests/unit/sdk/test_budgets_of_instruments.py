"""Instruments that are not ours: bounded in their labels, their series and their number."""

import itertools

import pytest
from opentelemetry.metrics import Observation

from otel_coach.metrics.catalogue import LABEL_OVERFLOW
from otel_coach.settings import Settings
from otel_coach.testing import measuring


def settings(**environ):
    return Settings.from_env({f"OTEL_COACH_{name}": value for name, value in environ.items()})


def own_meter(measured):
    return measured.installation.providers.meter_provider.get_meter("the.application")


# Instruments that are not ours


def test_instruments_of_others_keep_allowed_labels_with_bounded_values(measured):
    meter = own_meter(measured)
    jobs = meter.create_counter("jobs.done")
    sizes = meter.create_histogram("jobs.size", explicit_bucket_boundaries_advisory=[1, 2])
    level = meter.create_gauge("jobs.level")
    for number in range(3000):
        labels = {"model": f"m{number}", "endpoint": f"/{number}", "user": f"u{number}"}
        jobs.add(1, labels)
        sizes.record(1, labels)
        level.set(number, labels)
    for status in (200, "200"):
        jobs.add(1, {"status": status})
    page = measured.page()
    assert page.sum("jobs_done_total") == 3002
    assert page.sum("jobs_size_count") == 3000
    for name in ("jobs_done_total", "jobs_size_count", "jobs_level"):
        rows = page.samples(name)
        assert {key for labels, _ in rows for key in labels} <= {"model", "endpoint", "status"}
        assert len({labels["model"] for labels, _ in rows} - {""}) == 21
        assert len(rows) < 110
    assert [value for labels, value in page.samples("jobs_done_total", status="200")] == [2]
    ours = page.samples("agent_llm_requests_total")
    assert not {labels["model"] for labels, _ in ours} - {"none"}  # theirs took no place of ours


def test_observable_instruments_are_bounded_too(measured):
    meter = own_meter(measured)

    def generator():
        options = yield
        while True:
            assert options is not None
            options = yield [Observation(1, {"tool_name": f"t{n}", "x": n}) for n in range(500)]

    meter.create_observable_counter("seen", [lambda _: [Observation(2, {"x": 1})], generator()])
    for _ in range(2):
        page = measured.page()
        assert page.sum("seen_total") == 502
        assert len(page.samples("seen_total")) == 52


def test_an_operator_admits_a_label_to_an_instrument_by_name_and_it_is_bounded():
    admitted = settings(ADMIT_LABELS="jobs.done:queue.name:3, jobs.done:region")
    assert admitted.problems == ()
    with measuring(admitted) as measured:
        meter = own_meter(measured)
        for name in ("jobs.done", "other.jobs"):
            counter = meter.create_counter(name)
            for number in range(30):
                counter.add(1, {"queue.name": f"q{number}", "region": f"r{number}", "user": "u"})
        page = measured.page()
    rows = page.samples("jobs_done_total")
    assert len({labels["queue_name"] for labels, _ in rows}) == 3 + 1
    assert len({labels["region"] for labels, _ in rows}) == 20 + 1
    assert page.sum("jobs_done_total") == 30
    assert page.samples("other_jobs_total") == [({}, 30)]
    assert "user" not in page.labels


def test_a_full_budget_of_an_admitted_label_names_the_variable_to_raise(caplog):
    with measuring(
        settings(ADMIT_LABELS="jobs.done:job.queue:1,jobs.sent:job.queue:1")
    ) as measured:
        meter = own_meter(measured)
        for name in ("jobs.done", "jobs.sent"):
            counter = meter.create_counter(name)
            for number in range(3):
                counter.add(1, {"job.queue": f"q{number}"})
        page = measured.page()
    for name in ("jobs.done", "jobs.sent"):
        assert caplog.text.count(f"Raise the number there (`{name}:job.queue:N`)") == 1
    assert "OTEL_COACH_ADMIT_LABELS" in caplog.text
    assert "OTEL_COACH_BUDGET_" not in caplog.text
    overflow = page.samples("otel_coach_label_overflow_total")
    assert {labels["error_type"] for labels, _ in overflow} == {
        *LABEL_OVERFLOW.closed["error_type"]
    }
    assert page.sum("otel_coach_label_overflow_total", error_type="other") == 4


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("jobs", "instrument:label"),
        ("jobs:queue:many", "instrument:label"),
        ("jobs:queue:0", "whole number"),
        ("jobs:model", "jobs may have the label model without it; the entry is ignored"),
        ("jobs:a.b,jobs:a_b", "jobs has another label that Prometheus calls a_b"),
    ],
)
def test_a_wrong_admission_is_one_line_with_its_cure(value, problem):
    found = settings(ADMIT_LABELS=value)
    assert len(found.problems) == 1
    assert problem in found.problems[0]
    assert "OTEL_COACH_ADMIT_LABELS" in found.problems[0]


def test_two_scopes_with_one_instrument_make_one_family_whose_series_add_up(measured):
    """As the stock instrumentations of httpx and of requests do."""
    provider = measured.installation.providers.meter_provider
    for scope, labels in (("one", {"model": "m"}), ("two", {"status": "200"}), ("three", {})):
        meter = provider.get_meter(scope)
        meter.create_histogram("client.duration", "s").record(1.5, {**labels, "host": scope})
        meter.create_counter("client_calls").add(2, {"host": scope})
    provider.get_meter("four").create_counter("client.calls").add(3)
    page = measured.page()
    assert page.samples("client_calls_total") == [({}, 9)]
    rows = page.samples("client_duration_seconds_count")
    assert sorted((labels["model"], labels["status"]) for labels, _ in rows) == [
        ("", ""),
        ("", "200"),
        ("m", ""),
    ]
    assert page.sum("client_duration_seconds_sum") == 4.5


def test_what_does_not_add_up_is_left_out_and_said(measured, caplog):
    provider = measured.installation.providers.meter_provider
    provider.get_meter("one").create_counter("things").add(1)
    provider.get_meter("two").create_gauge("things").set(7)
    assert measured.page().samples("things_total") == [({}, 1)]
    assert "things" not in measured.page().names
    assert caplog.text.count("measured in two ways") == 1


def test_an_instrument_with_a_name_of_ours_gives_way(measured, caplog):
    meter = own_meter(measured)
    meter.create_counter("agent_llm_requests_total").add(5, {"model": "theirs"})
    meter.create_histogram("http.server.request.duration", unit="s").record(5)
    meter.create_histogram("http_server_request_duration_seconds").record(5)
    meter.create_counter("agent__llm.requests").add(5, {"model": "theirs"})
    meter.create_gauge("agent.llm.requests_total").set(5, {"model": "theirs"})
    meter.create_histogram("http.server.request.duration", unit="seconds").record(5)
    page = measured.page()
    assert page.samples("agent_llm_requests_total", model="theirs") == []
    assert page.samples("http_server_request_duration_seconds_count") == []
    assert caplog.text.count("gives way") == 5  # one of them twice, but it is said once


def test_names_of_instruments_made_at_run_time_are_bounded():
    with measuring(settings(BUDGET_INSTRUMENT="7")) as measured:
        meter = own_meter(measured)
        for number in range(100):
            meter.create_counter(f"made.{number}").add(1)
            meter.create_observable_gauge(f"seen.{number}", [lambda _: [Observation(1)]])
        page = measured.page()
    assert len([name for name in page.names if name.startswith(("made", "seen"))]) == 7
    assert page.sum("otel_coach_label_overflow_total", error_type="instrument") == 193


def test_the_sdks_own_overflow_label_is_never_reached(measured):
    counter = own_meter(measured).create_counter("wide")
    sent = 0
    for model, tool, mode in itertools.product(range(25), range(25), range(25)):
        counter.add(1, {"model": str(model), "tool_name": str(tool), "mode": str(mode)})
        sent += 1
    page = measured.page()
    assert page.sum("wide_total") == sent
    assert "otel_metric_overflow" not in page.text
    assert len(page.samples("wide_total")) <= 1000 + 1


def test_combinations_of_different_labels_are_different_combinations():
    with measuring(settings(BUDGET_LABEL_SET="2")) as measured:
        jobs = own_meter(measured).create_counter("jobs")
        for label in ("status", "mode", "model", "tool_name"):
            jobs.add(1, {label: "a"})
        rows = measured.page().samples("jobs_total")
    assert [labels for labels, _ in rows if "a" in labels.values()] == [
        {**dict.fromkeys(rows[0][0], ""), label: "a"} for label in ("status", "mode")
    ]
    assert sum(value for _, value in rows) == 4


def test_advised_bounds_that_have_no_length_are_the_sdks_matter(measured):
    meter = own_meter(measured)
    bounds = (bound for bound in (1, 2))
    meter.create_histogram("sizes", explicit_bucket_boundaries_advisory=bounds).record(1)
    assert measured.page().sum("sizes_count") == 1
