"""Each integration by each way of calling, against the provider's ledger and hand-written prices.

What the provider said, but the package does not hand over to any callback, cannot be measured. A
handler that is not otel-coach sees whether that is so, and `Integration.withholds` must say it.
"""

import pytest

from tests.support.agents import CALLS, TOKENS
from tests.support.providers.double import WAIT
from tests.support.providers.integrations import INTEGRATIONS
from tests.support.providers.table import CELL, EXACT, SILENT, WITHHELD
from tests.support.providers.ways import WAYS

COST = "agent_llm_cost_usd_total"
UNMEASURED = "agent_llm_unmeasured_total"
FIRST_TOKEN = "agent_llm_time_to_first_token_seconds"


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture(params=INTEGRATIONS.values(), ids=lambda one: one.name)
def integration(request):
    return request.param


@pytest.fixture
def outcome(drive, integration, way):
    if way.startswith("agent") and not integration.has_tools:
        pytest.skip("a text model calls no tools")
    made = drive(integration, way)
    assert made.error is None
    return made


@pytest.fixture
def note(request, integration, way, outcome, record_property):
    """Says whether a part that the provider said was withheld, and what the cell is."""
    column = request.function.__name__.removeprefix("test_")

    def noting(said, *, handed=None, cell=None):
        """`said` are the provider's values; they are handed over if a callback has them all.

        `cell` is what the table says, if that is not seen from these values.
        """
        said = [value for value in said if value]
        if handed is None:
            handed = all(outcome.handed.has(value) for value in said)
        withheld = bool(said) and not handed
        result = WITHHELD if withheld else EXACT if said else SILENT
        record_property(CELL, (integration.name, column, way, cell or result))
        assert withheld == (way in integration.withholds.get(column, ())), "see `withholds`"
        return not withheld

    return noting


def test_calls(outcome, integration, note):
    note([len(outcome.calls)], handed=True)
    ok = {"model": integration.model, "status": "ok", "error_type": ""}
    assert outcome.calls
    assert outcome.page.sum(CALLS, **ok) == outcome.page.sum(CALLS) == len(outcome.calls)
    streamed = sum(call.is_stream for call in outcome.calls)
    assert outcome.page.sum(CALLS, mode="stream") == streamed
    assert len(outcome.chats) == len(outcome.calls)


def test_tokens(outcome, note):
    prompts = [call.prompt for call in outcome.calls]
    completions = [call.completion for call in outcome.calls]
    handed = note([*prompts, *completions])
    assert outcome.page.sum(TOKENS, mode="prompt") == sum(prompts) * handed
    assert outcome.page.sum(TOKENS, mode="completion") == sum(completions) * handed
    without = 0 if handed else len(outcome.calls)
    assert outcome.page.sum(UNMEASURED, error_type="no_usage") == without


def test_cached(outcome, note):
    cached = [call.cached for call in outcome.calls]
    handed = note(cached)
    assert outcome.page.sum("agent_llm_cached_tokens_total") == sum(cached) * handed
    told = [
        span.attributes.get("gen_ai.usage.cache_read.input_tokens", 0) for span in outcome.chats
    ]
    assert told == [count * handed for count in cached]


def test_reasoning(outcome, note):
    reasoning = [call.reasoning for call in outcome.calls]
    handed = note(reasoning)
    assert outcome.page.sum("agent_llm_reasoning_tokens_total") == sum(reasoning) * handed
    told = [
        span.attributes.get("gen_ai.usage.reasoning.output_tokens", 0) for span in outcome.chats
    ]
    assert told == [count * handed for count in reasoning]


def test_cost(outcome, integration, way, note):
    stated = integration.stated_cost
    withheld = {column for column, ways in integration.withholds.items() if way in ways}
    handed = note([stated], cell=_cost_cell(integration, withheld))
    if "tokens" in withheld or (integration.price is None and stated is None):
        assert outcome.page.sum(COST) == 0
    elif stated is not None and handed:
        assert outcome.page.sum(COST) == pytest.approx(stated * len(outcome.calls), rel=1e-9)
    else:
        bills = [
            integration.price.cost(
                call.prompt, call.completion, call.cached * ("cached" not in withheld)
            )
            for call in outcome.calls
        ]
        assert outcome.page.sum(COST) == pytest.approx(sum(bills), rel=1e-9)
    has_usage = "tokens" not in withheld
    is_priced = integration.price is not None or stated is not None
    without = len(outcome.calls) if has_usage and not is_priced else 0
    assert outcome.page.sum(UNMEASURED, error_type="no_price") == without
    assert outcome.page.sum(UNMEASURED, error_type="extra_fee") == 0


def _cost_cell(integration, withheld):
    if integration.price is None and integration.stated_cost is None:
        return "no price"
    if "cost" in withheld:
        return "by the list: what the provider states is not handed over"
    return "cached tokens at the full price" if "cached" in withheld else EXACT


def test_first_token(outcome, note):
    streamed = [call for call in outcome.calls if call.is_stream]
    times = zip(streamed, outcome.handed.first_tokens, strict=True)
    late = [at - call.first_content for call, at in times]
    handed = note([len(streamed)], handed=all(seconds < WAIT / 2 for seconds in late))
    assert outcome.page.sum(f"{FIRST_TOKEN}_count") == len(streamed)
    assert outcome.page.sum(f"{FIRST_TOKEN}_sum") >= WAIT * len(streamed)
    if handed and streamed:
        assert outcome.seconds_after_first_token == pytest.approx(
            outcome.seconds_left, abs=WAIT / 2
        )


def test_finish(outcome, note):
    said = [call.finish for call in outcome.calls]
    handed = note(said)
    told = [span.attributes.get("gen_ai.response.finish_reasons", ()) for span in outcome.chats]
    assert told == [(reason,) * handed for reason in said]


def test_provider(outcome, integration, note):
    note([integration.provider], handed=True)
    told = {span.attributes["gen_ai.provider.name"] for span in outcome.chats}
    assert told == {integration.provider}
