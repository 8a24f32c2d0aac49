"""The fixed table, written out here a second time: the catalogue must say the same."""

import re

import pytest
from prometheus_client import generate_latest

from otel_coach.core.request_context import stated_mode
from otel_coach.metrics import catalogue
from otel_coach.metrics.catalogue import CATALOGUE, InstrumentKind
from otel_coach.metrics.labels import ALLOWED_LABELS, DEFAULT_BUDGETS
from otel_coach.testing import Page, measuring
from tests.support.paths import ROOT

FIXED = """
app_ai_request_duration_seconds | histogram | endpoint, model, mode, status
app_ai_stream_chunks_total | counter | endpoint, model, mode, status
app_ai_stream_aborts_total | counter | endpoint, model, mode, status
app_ai_abandoned_tokens_total | counter | endpoint, model, mode
app_ai_abandoned_cost_usd_total | counter | endpoint, model
app_ai_stopped_runs_total | counter | endpoint, model, mode
app_ai_streams_active | gauge | endpoint
app_websockets_active | gauge | endpoint
app_ai_time_to_first_chunk_seconds | histogram | endpoint, model, mode
agent_llm_requests_total | counter | model, mode, status, error_type
agent_llm_latency_seconds | histogram | model, status
agent_llm_time_to_first_token_seconds | histogram | model
agent_llm_time_per_output_token_seconds | histogram | model
agent_llm_tokens_total | counter | model, mode
agent_llm_cached_tokens_total | counter | model
agent_llm_reasoning_tokens_total | counter | model
agent_llm_cost_usd_total | counter | model
agent_llm_unmeasured_total | counter | model, error_type
agent_tool_calls_total | counter | tool_name, status, error_type
agent_tool_latency_seconds | histogram | tool_name, status
agent_embedding_requests_total | counter | model, status, error_type
agent_embedding_latency_seconds | histogram | model, status
agent_retrieval_requests_total | counter | tool_name, status, error_type
agent_retrieval_latency_seconds | histogram | tool_name, status
auth_failures_total | counter | endpoint, method, status, error_type
rate_limit_hits_total | counter | endpoint
dependency_up | gauge | dependency_name
dependency_latency_seconds | histogram | dependency_name, status
http_server_request_duration_seconds | histogram | endpoint, method, status
otel_coach_price_list_age_days | gauge |
otel_coach_lost_total | counter | error_type
otel_coach_label_overflow_total | counter | error_type
otel_coach_errors_total | counter | error_type
"""


def test_the_catalogue_is_the_fixed_table():
    fixed = [tuple(re.split(r" \| ?", line)) for line in FIXED.strip().splitlines()]
    declared = [(m.prometheus_name, m.kind.value, ", ".join(m.labels)) for m in CATALOGUE]
    assert declared == fixed


def test_budgets_are_the_fixed_ones():
    assert DEFAULT_BUDGETS == {
        "endpoint": 100,
        "model": 20,
        "mode": 10,
        "status": 40,
        "method": 20,
        "tool_name": 50,
        "error_type": 30,
        "dependency_name": 20,
    }


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.prometheus_name)
def test_buckets_reach_what_they_time(metric):
    if metric.kind is not InstrumentKind.HISTOGRAM:
        assert metric.buckets == ()
        return
    assert list(metric.buckets) == sorted(set(metric.buckets))
    if metric.name.startswith(("app.ai", "agent.")):
        assert metric.buckets[-1] == 120
    if metric.name == "dependency.latency":
        assert metric.buckets[0] == 0.001


@pytest.fixture
def measured():
    """Without the witnesses: what is recorded here never happened."""
    with measuring() as measurements:
        yield measurements


def measure_everything(measured):
    recorder = measured.installation.providers.recorder
    for metric in CATALOGUE:
        if metric.kind is not InstrumentKind.GAUGE:
            recorder.record(metric, 0.5, tuple(f"some {label}" for label in metric.labels))


def test_every_metric_reaches_the_page_under_its_name_and_labels_and_no_others(measured):
    measure_everything(measured)
    measured.installation.providers.recorder.flush_all()
    page = Page(generate_latest(measured.installation.providers.registry).decode())
    for metric in CATALOGUE:
        if metric.kind is InstrumentKind.GAUGE:
            continue
        name = metric.prometheus_name
        sample = f"{name}_bucket" if metric.kind is InstrumentKind.HISTOGRAM else name
        rows = page.samples(sample)
        assert rows, name
        for labels, _ in rows:
            assert set(labels) - {"le"} == set(metric.labels)
        if metric.kind is InstrumentKind.HISTOGRAM:
            bounds = {float(labels["le"]) for labels, _ in rows}
            assert bounds == {*metric.buckets, float("inf")}
    assert page.labels <= ALLOWED_LABELS | {"le"}
    allowed = {m.prometheus_name.removesuffix("_total") for m in CATALOGUE}
    assert set(page.types) <= allowed


def test_every_metric_of_the_module_is_in_the_catalogue():
    declared = [one for one in vars(catalogue).values() if isinstance(one, catalogue.Metric)]
    assert list(CATALOGUE) == declared


def test_closed_families_stand_at_0_from_the_start(measured):
    page = measured.page()
    assert page.sum("otel_coach_errors_total") == 0
    assert len(page.samples("otel_coach_errors_total")) == 8
    overflow = {
        labels["error_type"] for labels, _ in page.samples("otel_coach_label_overflow_total")
    }
    assert overflow == {*DEFAULT_BUDGETS, "label_set", "instrument", "instrument_lines", "other"}
    unmeasured = page.samples("agent_llm_unmeasured_total", model="none")
    assert {labels["error_type"] for labels, _ in unmeasured} == {
        "no_usage",
        "no_price",
        "extra_fee",
    }


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("streamlit", "streamlit"),
        ("plan_generator", "plan_generator"),
        ("a" * 40, "a" * 40),
        ("a" * 41, None),
        ("", None),
        ("two words", None),
        ("x\n", None),
        (7, None),
        (None, None),
        (["streamlit"], None),
    ],
)
def test_a_mode_is_a_short_identifier(value, mode):
    assert stated_mode(value) == mode


def test_the_page_of_metrics_is_up_to_date():
    from otel_coach.cli.metrics import markdown

    page = ROOT / "docs" / "metrics.md"
    assert page.read_text("utf-8") == "\n".join(markdown()) + "\n"
