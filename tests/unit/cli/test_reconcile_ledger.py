"""`otel-coach reconcile`: real calls over HTTP, and invoices made of the provider's ledger."""

import json

import httpx
import pytest
from langchain_openai import ChatOpenAI

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support import invoices
from tests.support.versions import STREAMS_TELL_PARTS

PRICES = {"gpt-4o": (2.5, 1.25, 10.0), "gpt-3.5-turbo": (0.5, 0.25, 1.5)}
"""USD per 1,000,000 tokens: of the prompt, of it those from the cache, of the completion."""
SNAPSHOTS = {"gpt-4o": "gpt-4o-2024-08-06", "gpt-3.5-turbo": "gpt-3.5-turbo-0125"}
TEXT = "[cached:2] [reasoning:3] one two three"


@pytest.fixture
def counting(tmp_path):
    """Measures this process, with the prices above."""
    path = tmp_path / "prices.json"
    path.write_text(
        json.dumps(
            {
                model: {"input_mtok": prompt, "cache_read_mtok": cached, "output_mtok": completion}
                for model, (prompt, cached, completion) in PRICES.items()
            }
        )
    )
    with measuring(Settings(prices_file=str(path))) as measured:
        yield measured


@pytest.fixture
def model(provider):
    def make(name):
        options = {"api_key": "k", "max_retries": 0, "timeout": 10, "stream_usage": True}
        return ChatOpenAI(model=name, base_url=provider.base_url, **options)

    return make


@pytest.fixture
def beside(provider):
    """Makes a call that passes by otel-coach."""

    def call(name, text=TEXT):
        body = {"model": name, "messages": [{"role": "user", "content": text}]}
        httpx.post(f"{provider.base_url}/chat/completions", json=body).raise_for_status()

    return call


def billed(provider):
    """The invoices of all that the provider has in its ledger, in three formats."""
    calls = list(invoices.of_ledger(provider.ledger, SNAPSHOTS, PRICES))
    return [
        [invoices.openai_usage(calls), invoices.openai_costs(calls)],
        [invoices.anthropic_usage(calls), invoices.anthropic_costs(calls)],
        [invoices.table(calls)],
    ]


def test_what_passes_through_us_is_captured_whole(reconcile, counting, provider, model):
    model("gpt-4o").invoke(TEXT)
    if STREAMS_TELL_PARTS:  # older versions hand over no cached tokens
        list(model("gpt-4o").stream(TEXT))
    model("gpt-3.5-turbo").batch([TEXT, TEXT])
    page = counting.page().text
    for exports in billed(provider):
        code, shown, _ = reconcile(exports, "--tolerance", "0", page=page)
        assert code == 0, shown
        assert shown.count("1.0000") == 6  # two models and the total, in tokens and USD


def test_the_share_is_what_did_not_pass_by_us(reconcile, counting, provider, model, beside):
    for _ in range(7):
        model("gpt-4o").invoke(TEXT)
    for _ in range(3):
        beside("gpt-4o")
    beside("gpt-3.5-turbo")
    page = counting.page().text
    for exports in billed(provider):
        found = reconcile.json(exports, page=page)
        rows = {row["model"]: row for row in found["models"]}
        for quantity in ("tokens", "usd"):
            assert rows["gpt-4o"][quantity]["captured"] == pytest.approx(0.7)
            assert rows["gpt-3.5-turbo-0125"][quantity]["captured"] == 0
        assert rows["gpt-4o"]["their_names"] == ["gpt-4o-2024-08-06"]
        assert rows["gpt-3.5-turbo-0125"]["our_names"] == []


def test_of_two_pages_only_what_lies_between_counts(reconcile, counting, provider, model, beside):
    model("gpt-4o").invoke(TEXT)
    before = counting.page().text
    provider.reset()
    model("gpt-4o").invoke(TEXT)
    beside("gpt-4o")
    for exports in billed(provider):
        found = reconcile.json(exports, page=counting.page().text, since=before)
        assert found["total"]["tokens"]["captured"] == pytest.approx(0.5)
        assert found["total"]["usd"]["captured"] == pytest.approx(0.5)


def test_a_call_without_usage_is_missing_and_is_shown_as_unmeasured(
    reconcile, counting, provider, model
):
    for _ in range(4):
        model("gpt-4o").invoke(TEXT)
    model("gpt-4o").invoke(f"[no-usage] {TEXT}")
    for exports in billed(provider):
        found = reconcile.json(exports, page=counting.page().text)
        (row,) = found["models"]
        assert row["tokens"]["captured"] == pytest.approx(0.8, abs=0.02)
        assert row["unmeasured"] == {"no_usage": 1}


def test_models_past_the_budget_are_judged_together(reconcile, provider, model, beside):
    with measuring(Settings(budgets={"model": 1})) as measured:
        model("gpt-4o").invoke(TEXT)
        model("gpt-3.5-turbo").invoke(TEXT)
        page = measured.page().text
    calls = list(invoices.of_ledger(provider.ledger, SNAPSHOTS, PRICES))
    found = reconcile.json(invoices.openai_usage(calls), page=page)
    assert found["reconciled"]
    assert [row["model"] for row in found["models"]] == ["gpt-3.5-turbo-0125", "gpt-4o", "other"]
    assert found["total"]["tokens"]["captured"] == 1
    assert "raise OTEL_COACH_BUDGET_MODEL" in "".join(found["notes"])
    beside("gpt-3.5-turbo")
    calls = list(invoices.of_ledger(provider.ledger, SNAPSHOTS, PRICES))
    found = reconcile.json(invoices.openai_usage(calls), page=page)
    judged = {row["model"]: bool(row["beyond_tolerance"]) for row in found["models"]}
    assert judged == {"gpt-3.5-turbo-0125": True, "gpt-4o": False, "other": True}
