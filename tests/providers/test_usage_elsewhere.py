"""Usage that is not where LangChain has a place for it, or that is none."""

import pytest
from langchain_openai import ChatOpenAI, OpenAI

from tests.support.agents import CALLS as REQUESTS
from tests.support.providers.double import Answer
from tests.support.providers.integrations import INTEGRATIONS, KEY, Price
from tests.support.providers.ways import CALLS, run

TEXT = Price(1.5, 2)  # gpt-3.5-turbo-instruct
PROMPTS = ["How far?", "How fast?", "How often?"]
STREAMS = ["stream", "astream"]


def _text_model():
    return OpenAI(model="gpt-3.5-turbo-instruct", api_key=KEY, max_retries=0)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_text_model_reports_its_usage_beside_the_text(observe, way):
    outcome = observe(CALLS[way], _text_model(), Answer())
    assert (outcome.tokens("prompt"), outcome.tokens("completion")) == (1013, 211)
    assert outcome.cost == pytest.approx(TEXT.cost(1013, 211), rel=1e-9)
    assert outcome.finishes == [("stop",)]
    assert outcome.unmeasured("no_usage") == 0


@pytest.mark.parametrize(
    "batch",
    [
        lambda model: model.batch(PROMPTS),
        lambda model: model.generate(PROMPTS),
        lambda model: run(model.abatch(PROMPTS)),
    ],
    ids=["batch", "generate", "abatch"],
)
def test_a_batch_of_prompts_in_one_call_is_billed_once(observe, batch):
    """LangChain has a run for each prompt, and the first one gets the usage of them all."""
    outcome = observe(batch, _text_model(), Answer())
    assert len(outcome.calls) == 1
    assert outcome.page.sum(REQUESTS, status="ok") == len(PROMPTS)
    assert (outcome.tokens("prompt"), outcome.tokens("completion")) == (1013, 211)
    assert outcome.cost == pytest.approx(TEXT.cost(1013, 211), rel=1e-9)
    assert outcome.page.sum("agent_llm_unmeasured_total") == 0


@pytest.mark.parametrize("way", STREAMS)
def test_running_totals_in_each_chunk_are_no_parts_of_a_sum(observe, way):
    model = ChatOpenAI(model="gpt-5.2", api_key=KEY)
    outcome = observe(CALLS[way], model, Answer(text="A B C D", usage="running"))
    assert outcome.error is None
    assert (outcome.tokens("prompt"), outcome.tokens("completion")) == (1013, 211)
    assert outcome.page.sum("agent_llm_cached_tokens_total") == 419
    bill = Price(1.75, 14, cached=0.175).cost(1013, 211, 419)
    assert outcome.cost == pytest.approx(bill, rel=1e-9)


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize("name", ["ChatAnthropic", "ChatAnthropicBedrock"])
def test_usage_in_two_parts_of_a_stream_is_their_sum(observe, name, way):
    """The prompt's tokens come with the stream's start, the completion's with its end."""
    outcome = observe(CALLS[way], INTEGRATIONS[name].make(), Answer(cache_write=101))
    assert (outcome.tokens("prompt"), outcome.tokens("completion")) == (1013, 211)
    assert outcome.page.sum("agent_llm_cached_tokens_total") == 419
    bill = INTEGRATIONS[name].price.cost(1013, 211, 419, 101)
    assert outcome.cost == pytest.approx(bill, rel=1e-9)


@pytest.mark.parametrize("way", STREAMS)
def test_a_broken_streams_usage_is_counted_but_is_not_all(observe, way):
    """What was billed is at least this; the completion's tokens never came."""
    outcome = observe(CALLS[way], INTEGRATIONS["ChatAnthropicBedrock"].make(), Answer(cut=True))
    assert outcome.error is not None
    assert outcome.page.sum(REQUESTS, status="error") == 1
    assert outcome.tokens("prompt") == 1013
    assert outcome.tokens("completion") < 211
    assert outcome.unmeasured("no_usage") == 1


@pytest.mark.parametrize("way", STREAMS)
def test_of_a_broken_stream_with_running_totals_the_last_one_is_counted(observe, way):
    model = ChatOpenAI(model="gpt-5.2", api_key=KEY, max_retries=0)
    outcome = observe(CALLS[way], model, Answer(text="A B C D", usage="running", cut=True))
    assert outcome.error is not None
    assert outcome.tokens("prompt") == 1013
    assert outcome.tokens("completion") == 100  # the role's chunk, and that of the first word
    assert outcome.unmeasured("no_usage") == 1


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize(
    "name", ["ChatOpenAI", "ChatDeepSeek", "ChatFireworks", "ChatGroq", "ChatHuggingFace"]
)
def test_a_usage_of_nothing_is_none(observe, name, way):
    outcome = observe(CALLS[way], INTEGRATIONS[name].make(), Answer(usage="zero"))
    assert outcome.error is None
    assert outcome.unmeasured("no_usage") == 1
    assert outcome.unmeasured("no_price") == 0
    assert outcome.cost == 0


@pytest.mark.parametrize("way", CALLS)
def test_coheres_whole_answers_hand_over_more_than_is_billed(observe, way):
    """`tokens` is what the model read, a preamble of Cohere's included; `billed_units` is the bill.

    langchain-cohere hands over the former with whole answers, the latter with streams.
    """
    read = {"input_tokens": 1084.0, "output_tokens": 211.0}
    outcome = observe(CALLS[way], INTEGRATIONS["ChatCohere"].make(), Answer(extra={"tokens": read}))
    assert outcome.error is None
    is_whole = way in {"invoke", "ainvoke"}
    assert outcome.handed.has(1013) != is_whole
    assert outcome.tokens("prompt") == (1084 if is_whole else 1013)


@pytest.mark.parametrize("way", STREAMS)
def test_a_stream_that_was_not_asked_for_its_usage_has_none(observe, way):
    model = ChatOpenAI(model="gpt-5.2", api_key=KEY, stream_usage=False)
    outcome = observe(CALLS[way], model, Answer())
    assert [call.has_usage for call in outcome.calls] == [False]
    assert outcome.unmeasured("no_usage") == 1
