"""OpenAI's service tiers: each has prices of its own, and LangChain renames the parts of the usage.

With a tier other than the default, langchain-openai's usage_metadata has `flex_cache_read`,
`priority_reasoning` and the like in place of `cache_read` and `reasoning`, and the rest as `flex`.
"""

import pytest
from langchain_openai import ChatOpenAI

from tests.support.providers.double import Answer
from tests.support.providers.integrations import KEY, Price
from tests.support.providers.ways import CALLS

# https://platform.openai.com/docs/pricing, gpt-5.2 by tier, USD for a million tokens.
PRICES = {
    "default": Price(1.75, 14, cached=0.175),
    "flex": Price(0.875, 7, cached=0.0875),
    "priority": Price(3.5, 28, cached=0.35),
}


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("tier", PRICES)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_tier_that_the_answer_names_is_paid(observe, api, tier, way):
    model = ChatOpenAI(
        model="gpt-5.2", api_key=KEY, use_responses_api=api == "responses", service_tier=tier
    )
    outcome = observe(CALLS[way], model, Answer(tier=tier))
    (call,) = outcome.calls
    assert (call.tier, call.cached, call.reasoning) == (tier, 419, 67)
    assert outcome.tokens("prompt") == call.prompt
    assert outcome.tokens("completion") == call.completion
    assert outcome.page.sum("agent_llm_cached_tokens_total") == call.cached
    assert outcome.page.sum("agent_llm_reasoning_tokens_total") == call.reasoning
    bill = PRICES[tier].cost(call.prompt, call.completion, call.cached)
    assert outcome.cost == pytest.approx(bill, rel=1e-9)
    assert outcome.page.sum("agent_llm_unmeasured_total") == 0


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_tier_that_was_asked_for_but_not_given_is_not_paid(observe, api, way):
    """Where OpenAI has no capacity, it answers at the default tier, and says so."""
    model = ChatOpenAI(
        model="gpt-5.2", api_key=KEY, use_responses_api=api == "responses", service_tier="priority"
    )
    outcome = observe(CALLS[way], model, Answer(tier="default"))
    (call,) = outcome.calls
    bill = PRICES["default"].cost(call.prompt, call.completion, call.cached)
    assert outcome.cost == pytest.approx(bill, rel=1e-9)


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("tier", ["on_demand", "flex"])
def test_groqs_tiers_have_one_price(observe, tier, way):
    """https://console.groq.com/docs/flex-processing: as on demand, with more rejections."""
    from langchain_groq import ChatGroq

    model = ChatGroq(model="openai/gpt-oss-120b", api_key=KEY, service_tier=tier)
    outcome = observe(CALLS[way], model, Answer())
    bill = Price(0.15, 0.6, cached=0.075).cost(1013, 211, 419)
    assert outcome.cost == pytest.approx(bill, rel=1e-9)


@pytest.mark.parametrize("way", CALLS)
def test_a_tier_whose_price_is_not_known_has_none(observe, way):
    """Fireworks takes more for `priority`; the list does not say how much."""
    from langchain_fireworks import ChatFireworks

    name = "accounts/fireworks/models/deepseek-v3p2"
    model = ChatFireworks(model=name, api_key=KEY, service_tier="priority")
    outcome = observe(CALLS[way], model, Answer(tier="priority"))
    assert outcome.error is None
    assert outcome.handed.has("priority")
    assert outcome.cost == 0
    assert outcome.unmeasured("no_price") == 1
