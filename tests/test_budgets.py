"""Bounded series, whatever comes in: values, combinations, instruments, workers."""

import gc
import itertools
import math
import threading
import tracemalloc

import httpx
import pytest
from conftest import alone
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from opentelemetry.metrics import Observation
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Mount, Route

from otel_coach.budgets import Budgets
from otel_coach.cardinality import most_series
from otel_coach.catalogue import CATALOGUE
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from otel_coach.workers.log import SharedLog
from soak.servers import SERVERS, running


def settings(**environ):
    return Settings.from_env({f"OTEL_COACH_{name}": value for name, value in environ.items()})


def own_meter(measured):
    return measured.installation.providers.meter_provider.get_meter("the.application")


# What can be at most


def test_the_worst_case_of_the_catalogue_multiplied_by_hand():
    endpoints, models, modes = 100 + 2, 20 + 2, 10 + 5  # with other, unmatched, none, stream, ...
    errors = 30 + 1 + 27  # other; "", no_usage, no_price, 5 refusals, 7 faults, 11 budgets and 1
    routes = 10 * 100  # what declared routes have places for, beyond the 1,000
    expected = {
        # past 1,000 combinations all but the status, the method and a declared name become other
        "app_ai_request_duration_seconds": (1000 + (100 + 1) * 3) * (14 + 3),
        "app_ai_stream_chunks_total": 1000 + (100 + 1) * 3,
        "app_ai_stream_aborts_total": 1000 + (100 + 1),
        "app_ai_streams_active": endpoints,
        "app_ai_time_to_first_chunk_seconds": (1000 + (100 + 1)) * (14 + 3),
        "agent_llm_requests_total": 1000 + (20 + 1) * 3 * 2,
        "agent_llm_latency_seconds": models * 3 * (14 + 3),
        "agent_llm_time_to_first_token_seconds": models * (14 + 3),
        "agent_llm_time_per_output_token_seconds": models * (13 + 3),
        "agent_llm_tokens_total": models * 2,
        "agent_llm_cached_tokens_total": models,
        "agent_llm_reasoning_tokens_total": models,
        "agent_llm_cost_usd_total": models,
        "agent_llm_unmeasured_total": models * 2,
        "agent_tool_calls_total": 1000 + (50 + 1) * 3 * 2,
        "agent_tool_latency_seconds": (50 + 1) * 3 * (14 + 3),
        "auth_failures_total": 1000 + routes + 11 * 2 * 2,
        "rate_limit_hits_total": endpoints,
        "dependency_up": 20 + 1,
        "dependency_latency_seconds": (20 + 1) * 2 * (13 + 3),
        "http_server_request_duration_seconds": (1000 + routes + 11 * (40 + 4)) * (17 + 3),
        "otel_coach_label_overflow_total": 11,
        "otel_coach_lost_total": 4,  # full queue, and one for each signal
        "otel_coach_errors_total": 8,
    }
    assert {metric.prometheus_name: most_series(metric) for metric in CATALOGUE} == expected
    assert sum(expected.values()) < 105_000
    # Those that stay below 1,000 combinations by themselves do so by these products.
    assert (
        max(models * 3, 51 * 3, 21 * 2, endpoints)
        < 1000
        < min(
            endpoints * models * modes,
            models * modes * 3 * errors,
            51 * 3 * errors,
            endpoints * 11 * 44,
        )
    )


def test_every_label_full_of_junk_stays_within_the_worst_case():
    """All combinations of more values than each label may have, of which none repeats."""
    tight = dict.fromkeys(("ENDPOINT", "MODEL", "MODE", "TOOL_NAME", "ERROR_TYPE", "STATUS"), "3")
    few = settings(
        **{f"BUDGET_{name}": size for name, size in tight.items()}, BUDGET_LABEL_SET="40"
    )
    with measuring(few) as measured:
        recorder = measured.installation.providers.recorder
        for metric in CATALOGUE:
            if metric.kind.value == "gauge":
                continue
            values = [metric.closed.get(label, range(6)) for label in metric.labels]
            for labels in itertools.product(*values):
                recorder.record(metric, 1, tuple(map(str, labels)))
        page = measured.page()
        for metric in CATALOGUE:
            rows = [name for name in page.names if name.startswith(metric.prometheus_name)]
            found = sum(len(page.samples(name)) for name in rows)
            assert found <= most_series(metric, few.budgets), metric.prometheus_name
            if metric.kind.value == "counter" and metric.prometheus_name.startswith("agent"):
                sent = math.prod(len(metric.closed.get(label, range(6))) for label in metric.labels)
                assert page.sum(metric.prometheus_name) == sent  # none is lost


# Who has a place


def ask(client, path):
    assert client.get(path).status_code == 200


def test_pinned_values_never_lose_their_place_to_junk_that_came_first():
    pinned = settings(ALLOWED_MODELS="gpt-9, gpt-10", BUDGET_MODEL="4")
    with measuring(pinned) as measured:
        for name in ("junk-1", "junk-2", "junk-3", "gpt-10", "junk-4", "gpt-9"):
            model = FakeListChatModel(responses=["hi"])
            model.invoke("hi", {"metadata": {"ls_model_name": name}})
        found = {
            labels["model"] for labels, _ in measured.page().samples("agent_llm_requests_total")
        }
    assert found == {"gpt-9", "gpt-10", "junk-1", "junk-2", "other"}


def test_more_pinned_values_than_the_budget_are_what_the_operator_wants():
    budgets = Budgets({"model": 2}, {"model": ["a", "b", "c"]})
    assert [budgets.bounded("model", name) for name in "dabc"] == ["other", "a", "b", "c"]


def test_routes_that_the_application_declares_come_before_those_made_at_run_time():
    from conftest import serving

    app = FastAPI()
    for name in ("one", "two"):
        app.get(f"/{name}/{{x}}")(lambda x: x)
    inside = [Route("/deep", lambda _request: None)]
    app.router.routes.append(Mount("/mounted", routes=inside))
    with measuring(settings(BUDGET_ENDPOINT="8")) as measured, serving(app) as client:
        for number in range(9):
            app.get(f"/made/{number}")(lambda: 1)
            ask(client, f"/made/{number}")
        ask(client, "/two/2")
        rows = measured.page().samples("http_server_request_duration_seconds_count")
    # /docs, its redirect, /redoc and /openapi.json are four of the eight.
    found = {labels["endpoint"] for labels, _ in rows}
    assert "/two/{x}" in found
    assert "other" in found
    assert not {f"/made/{number}" for number in range(9)} & found


def test_a_place_is_not_taken_by_what_is_no_name(measured):
    recorder = measured.installation.providers.recorder
    junk = (
        "new\nline",
        "nul\x00",
        "\ud800",
        "x" * 201,
        "\x1b[31m",
        None,
        b"bytes",
        ["list"],
        object(),
    )
    for metric in CATALOGUE:
        if metric.prometheus_name == "rate_limit_hits_total":
            for value in (*junk, "good", 7, 1.5, True):
                recorder.record(metric, 1, (value,))
    rows = measured.page().samples("rate_limit_hits_total")
    assert {labels["endpoint"]: count for labels, count in rows} == {
        "other": len(junk),
        "good": 1,
        "7": 1,
        "1.5": 1,
        "true": 1,
    }


# Several workers


def test_workers_that_saw_different_values_first_agree_on_one_budget(tmp_path):
    workers = [Budgets({"model": 5}) for _ in range(4)]
    barrier = threading.Barrier(4)
    found = [set() for _ in workers]

    def work(place):
        workers[place].bounded("model", f"before-{place}")
        workers[place].share(SharedLog(tmp_path / "log"))
        barrier.wait()
        for number in range(200):
            found[place].add(workers[place].bounded("model", f"{place}-{number}"))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = Budgets({"model": 5})
    late.share(SharedLog(tmp_path / "log"))
    names = set.union(*found, {late.bounded("model", "late")}) - {"other"}
    assert len(names) <= 5
    assert len((tmp_path / "log").read_bytes()) < 2000


def test_a_worker_that_takes_the_place_of_another_writes_nothing_that_is_known(tmp_path):
    path, sizes = tmp_path / "log", []
    for _ in range(4):
        budgets = Budgets()
        budgets.reserve("dependency_name", ["postgres", "cache"])
        budgets.share(SharedLog(path))
        budgets.reserve("endpoint", [f"/route/{number}" for number in range(20)])
        sizes.append(path.stat().st_size)
    assert sizes[0] > 0
    assert set(sizes) == {sizes[0]}


def test_a_line_that_somebody_could_not_finish_harms_nobody(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'\n["", "model", "a"]\n\n["", "mo')
    budgets = Budgets({"model": 2})
    budgets.share(SharedLog(path))
    assert [budgets.bounded("model", name) for name in ("b", "c", "a")] == ["b", "other", "a"]


def test_where_claims_cannot_be_written_nothing_new_gets_a_place(tmp_path, monkeypatch):
    log = SharedLog(tmp_path / "log")
    budgets = Budgets()
    budgets.share(log)
    assert budgets.bounded("model", "before") == "before"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    assert [budgets.bounded("model", name) for name in ("new", "before")] == ["other", "before"]
    monkeypatch.undo()
    assert budgets.bounded("model", "new") == "new"


@pytest.mark.fleet
def test_the_merged_page_of_real_workers_keeps_to_the_budget():
    environment = {"OTEL_COACH_BUDGET_MODE": "4", "SMALL_APP": "says who answers"}
    with running(SERVERS["uvicorn"], environment=environment, workers=3) as server:
        asked = 60
        for number in range(asked):
            with httpx.Client() as client:  # a connection of its own, to any worker
                assert client.get(f"{server.url}/mode/{number}").status_code == 200
        text = httpx.get(f"{server.url}/metrics").text
    rows = [
        sample
        for family in text_string_to_metric_families(text)
        if family.name == "agent_llm_requests"
        for sample in family.samples
    ]
    modes = {sample.labels["mode"] for sample in rows}
    assert len(modes - {"other", "stream", "invoke"}) == 4
    assert sum(sample.value for sample in rows) == asked


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


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("jobs", "instrument:label"),
        ("jobs:queue:many", "instrument:label"),
        ("jobs:queue:0", "whole number"),
        ("jobs:model", "has a label model already"),
        ("jobs:a.b,jobs:a_b", "has a label a_b already"),
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
    assert measured.page().samples("things") == []
    assert caplog.text.count("measured in two ways") == 1


def test_an_instrument_with_a_name_of_ours_gives_way(measured, caplog):
    meter = own_meter(measured)
    meter.create_counter("agent_llm_requests_total").add(5, {"model": "theirs"})
    meter.create_histogram("http.server.request.duration", unit="s").record(5)
    meter.create_histogram("http_server_request_duration_seconds").record(5)
    page = measured.page()
    assert page.samples("agent_llm_requests_total", model="theirs") == []
    assert page.samples("http_server_request_duration_seconds_count") == []
    assert caplog.text.count("gives way") == 3


def test_names_of_instruments_made_at_run_time_are_bounded():
    with measuring(settings(BUDGET_INSTRUMENT="7")) as measured:
        meter = own_meter(measured)
        for number in range(100):
            meter.create_counter(f"made.{number}").add(1)
            meter.create_observable_gauge(f"seen.{number}", [lambda _: [Observation(1)]])
        page = measured.page()
    assert len([name for name in page.names if name.startswith(("made", "seen"))]) == 7
    assert page.sum("otel_coach_label_overflow_total", error_type="instrument") == 193


def kept_of_instruments_that_are_not_measured():
    with measuring(settings(BUDGET_INSTRUMENT="7")) as measured:
        meter = own_meter(measured)

        def make(begin):
            for number in range(begin, begin + 5000):
                meter.create_counter(f"made.{number}").add(1)
                meter.create_gauge(f"set.{number}").set(1)
                meter.create_observable_gauge(f"seen.{number}", [])
            measured.page()
            gc.collect()

        make(0)
        tracemalloc.start()
        make(5000)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return grown


def test_instruments_that_are_not_measured_leave_nothing_in_memory():
    kept = alone(kept_of_instruments_that_are_not_measured)
    assert kept < 15_000 * 10  # bytes; one name would be more


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
