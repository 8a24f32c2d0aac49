"""What a call is billed for beside its tokens: priced where the list knows it, else `extra_fee`."""

import pytest
from langchain_openai import ChatOpenAI

from tests.support.providers.double import Answer
from tests.support.providers.integrations import INTEGRATIONS, KEY, Price
from tests.support.providers.ways import CALLS

WHOLE = ["invoke", "ainvoke"]
GPT = Price(1.75, 14, cached=0.175).cost(1013, 211, 419)  # gpt-5.2
SEARCH = 0.01
"""US dollars for one web search, with OpenAI and with Anthropic."""


def _search(number):
    action = {"type": "search", "query": "weather in Bern"}
    return {
        "id": f"ws_{number}",
        "type": "web_search_call",
        "status": "completed",
        "action": action,
    }


@pytest.mark.parametrize("way", CALLS)
def test_openais_web_searches_are_paid(observe, way):
    model = ChatOpenAI(model="gpt-5.2", api_key=KEY, use_responses_api=True)
    model = model.bind_tools([{"type": "web_search"}])
    searches = [_search(1), _search(2)]
    outcome = observe(CALLS[way], model, Answer(extra={"output": searches}))
    assert outcome.error is None
    assert outcome.cost == pytest.approx(GPT + 2 * SEARCH, rel=1e-9)
    assert outcome.page.sum("agent_llm_unmeasured_total") == 0


@pytest.mark.parametrize("way", CALLS)
def test_an_image_that_openai_made_is_an_extra_fee(observe, way):
    image = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "eA=="}
    model = ChatOpenAI(model="gpt-5.2", api_key=KEY, use_responses_api=True)
    outcome = observe(CALLS[way], model, Answer(extra={"output": [image]}))
    assert outcome.error is None
    assert outcome.unmeasured("extra_fee") == 1
    assert outcome.unmeasured("no_price") == 0
    assert outcome.cost == pytest.approx(GPT, rel=1e-9)


@pytest.mark.parametrize("way", CALLS)
def test_anthropics_web_searches_are_paid(observe, way):
    searches = {"usage": {"server_tool_use": {"web_search_requests": 2}}}
    outcome = observe(CALLS[way], INTEGRATIONS["ChatAnthropic"].make(), Answer(extra=searches))
    assert outcome.error is None
    tokens = INTEGRATIONS["ChatAnthropic"].price.cost(1013, 211, 419)
    handed = outcome.handed.has_key("server_tool_use")
    assert handed == (way in WHOLE)  # streams leave it out
    assert outcome.cost == pytest.approx(tokens + 2 * SEARCH * handed, rel=1e-9)


@pytest.mark.parametrize("way", CALLS)
def test_what_gemini_looks_up_is_paid_or_an_extra_fee(observe, way):
    grounding = {"webSearchQueries": ["weather in Bern"], "groundingChunks": []}
    candidate = {"candidate": {"groundingMetadata": grounding}}
    model = INTEGRATIONS["ChatGoogleGenerativeAI"].make()
    outcome = observe(CALLS[way], model, Answer(extra=candidate))
    assert outcome.error is None
    tokens = INTEGRATIONS["ChatGoogleGenerativeAI"].price.cost(1013, 211, 419)
    with_search = outcome.cost == pytest.approx(tokens + 0.035, rel=1e-9)
    assert with_search or outcome.unmeasured("extra_fee") == 1


@pytest.mark.parametrize("way", WHOLE)
def test_xais_sources_are_an_extra_fee(observe, way):
    """https://docs.x.ai/docs/models: 25 USD for a thousand sources; the list has no price."""
    answer = Answer(extra={"usage": {"num_sources_used": 4}})
    outcome = observe(CALLS[way], INTEGRATIONS["ChatXAI"].make(), answer)
    assert outcome.error is None
    assert outcome.handed.has(4)
    assert outcome.unmeasured("extra_fee") == 1


@pytest.mark.parametrize("way", CALLS)
def test_audio_that_the_list_has_no_price_for_is_an_extra_fee(observe, way):
    """Audio tokens cost some ten times text tokens; this model's entry has only the latter."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 500},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 100},
    }
    model = ChatOpenAI(model="gpt-4o-audio-preview", api_key=KEY)
    outcome = observe(CALLS[way], model, Answer(cached=0, extra={"usage": details}))
    assert outcome.error is None
    assert outcome.unmeasured("extra_fee") == 1


@pytest.mark.parametrize("way", WHOLE)
def test_perplexitys_research_has_four_prices(observe, way):
    """https://docs.perplexity.ai/getting-started/pricing: reasoning and citations come on top."""
    from langchain_perplexity import ChatPerplexity

    parts = {"reasoning_tokens": 30_011, "citation_tokens": 2003, "num_search_queries": 7}
    model = ChatPerplexity(model="sonar-deep-research", api_key=KEY)
    outcome = observe(CALLS[way], model, Answer(extra={"usage": parts}))
    assert outcome.error is None
    bill = (1013 * 2 + 211 * 8 + 30_011 * 3 + 2003 * 2) / 1_000_000 + 7 * 0.005
    assert outcome.unmeasured("no_usage") == 0
    assert outcome.cost == pytest.approx(bill, rel=1e-9)


@pytest.mark.parametrize("way", CALLS)
def test_openrouters_own_statement_of_the_cost_comes_first(observe, way):
    outcome = observe(CALLS[way], INTEGRATIONS["ChatOpenRouter"].make(), Answer(cost=0.5))
    assert outcome.cost == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("way", WHOLE)
def test_the_same_behind_chat_openai(observe, way):
    """In streams, ChatOpenAI does not hand over the usage block itself."""
    address = "https://openrouter.ai/api/v1"
    model = ChatOpenAI(model="openai/gpt-4o-mini", api_key=KEY, base_url=address)
    outcome = observe(CALLS[way], model, Answer(cost=0.5))
    assert outcome.handed.has(0.5)
    assert outcome.cost == pytest.approx(0.5, rel=1e-9)
