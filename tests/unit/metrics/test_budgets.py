"""Bounded series, whatever comes in: values, combinations, instruments, workers."""

import itertools
import math
import threading

import pytest
from langchain_core.language_models import FakeListChatModel

from otel_coach import views
from otel_coach.metrics.cardinality import BoundedLabels, Budgets
from otel_coach.metrics.catalogue import CATALOGUE, DEPENDENCY_UP, TOOL_CALLS
from otel_coach.metrics.labels import DEFAULT_SIZES
from otel_coach.metrics.series_bound import max_lines
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from otel_coach.workers.append_log import SharedLog


def settings(**environ):
    return Settings.from_env({f"OTEL_COACH_{name}": value for name, value in environ.items()})


# What can be at most


def test_the_worst_case_of_the_catalogue_multiplied_by_hand():
    endpoints, models, modes = 100 + 2, 20 + 2, 10 + 5  # with other, unmatched, none, stream, ...
    errors = 30 + 1 + 29  # other; "", 1 for tools, 3 bills, 5 refusals, 7 faults, 12 budgets
    routes = 10 * 100  # what declared routes have places for, beyond the 1,000
    expected = {
        # past 1,000 combinations all but the status, the method and a declared name become other
        "app_ai_request_duration_seconds": (1000 + (100 + 1) * 3) * (14 + 3),
        "app_ai_stream_chunks_total": 1000 + (100 + 1) * 3,
        "app_ai_stream_aborts_total": 1000 + (100 + 1),
        "app_ai_abandoned_tokens_total": 1000 + (100 + 1),
        "app_ai_abandoned_cost_usd_total": 1000 + (100 + 1),
        "app_ai_stopped_runs_total": 1000 + (100 + 1),
        "app_ai_streams_active": endpoints,
        "app_websockets_active": endpoints,
        "app_ai_time_to_first_chunk_seconds": (1000 + (100 + 1)) * (14 + 3),
        "agent_llm_requests_total": 1000 + (20 + 1) * 3 * 2,
        "agent_llm_latency_seconds": models * 3 * (14 + 3),
        "agent_llm_time_to_first_token_seconds": models * (14 + 3),
        "agent_llm_time_per_output_token_seconds": models * (13 + 3),
        "agent_embedding_requests_total": 1000 + (20 + 1) * 3 * 2,
        "agent_embedding_latency_seconds": models * 3 * (13 + 3),
        "agent_llm_tokens_total": models * 3,
        "agent_llm_cached_tokens_total": models,
        "agent_llm_reasoning_tokens_total": models,
        "agent_llm_cost_usd_total": models,
        "agent_llm_unmeasured_total": models * 3,
        "agent_tool_calls_total": 1000 + (50 + 1) * 3 * 2,
        "agent_tool_latency_seconds": (50 + 1) * 3 * (14 + 3),
        "agent_retrieval_requests_total": 1000 + (50 + 1) * 3 * 2,
        "agent_retrieval_latency_seconds": (50 + 1) * 3 * (14 + 3),
        "auth_failures_total": 1000 + routes + 11 * 2 * 2,
        "rate_limit_hits_total": endpoints,
        "dependency_up": 20 + 1,
        "dependency_latency_seconds": (20 + 1) * 2 * (13 + 3),
        "http_server_request_duration_seconds": (1000 + routes + 11 * (40 + 4)) * (17 + 3),
        "otel_coach_price_list_age_days": 1,
        "otel_coach_label_overflow_total": 12,
        "otel_coach_lost_total": 4,  # full queue, and one for each signal
        "otel_coach_errors_total": 8,
    }
    assert {metric.prometheus_name: max_lines(metric) for metric in CATALOGUE} == expected
    assert sum(expected.values()) < 113_000
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
            assert found <= max_lines(metric, few.budgets), metric.prometheus_name
            if metric.kind.value == "counter" and metric.prometheus_name.startswith("agent"):
                sent = math.prod(len(metric.closed.get(label, range(6))) for label in metric.labels)
                assert page.sum(metric.prometheus_name) == sent  # none is lost


# Who has a place


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


def test_a_gauge_gets_its_name_when_claims_can_be_written_again(tmp_path, monkeypatch, caplog):
    log = SharedLog(tmp_path / "log")
    budgets = Budgets()
    labels = BoundedLabels(budgets)
    budgets.share(log)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    assert labels.of_gauge(DEPENDENCY_UP, ("postgres",)) == ("other",)
    assert caplog.text == ""  # the budget is not full
    monkeypatch.undo()
    assert labels.of_gauge(DEPENDENCY_UP, ("postgres",)) == ("postgres",)


@pytest.mark.parametrize("label", DEFAULT_SIZES)
def test_the_smallest_budgets_give_a_page_and_count_what_is_over(label):
    """Also the budget that the metric for what is over would exceed itself."""
    with measuring(Settings(budgets={label: 1})) as measured:
        recorder = measured.installation.providers.recorder
        for number in range(30):
            recorder.record(TOOL_CALLS, 1, (f"tool{number}", f"status{number}", f"error{number}"))
        page = measured.page()
    assert page.sum("agent_tool_calls_total") == 30
    if label in (*TOOL_CALLS.labels, "label_set"):
        assert page.sum("otel_coach_label_overflow_total", error_type=label) >= 20


@pytest.mark.parametrize("budgets", [{}, {"endpoint": 1000}, {"label_set": 5000}])
def test_the_sdks_own_limit_is_above_all_that_budgets_allow(budgets, monkeypatch):
    """Past it the SDK adds up in a series of its own, which no budget counts."""
    limits = []
    monkeypatch.setattr(views, "_KNOWS_LIMIT", True)
    monkeypatch.setattr(views, "View", lambda **arguments: limits.append(arguments))
    views.build_views(budgets=budgets)
    endpoints = budgets.get("endpoint", 100)
    routes = 10 * endpoints  # as in the worst case above
    past = 11 * (40 + 4)
    most = budgets.get("label_set", 1000) + routes + past
    assert limits[0]["aggregation_cardinality_limit"] > most
