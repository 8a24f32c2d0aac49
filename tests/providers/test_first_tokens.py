"""The first token is the first text, tool call delta or reasoning, and no empty opening item."""

import pytest

from tests.support.providers.double import WAIT, Answer
from tests.support.providers.integrations import INTEGRATIONS, KEY
from tests.support.providers.ways import CALLS, weather

STREAMS = ["stream", "astream"]
WITH_REASONING = [
    "ChatOpenAI, Responses",
    "ChatAnthropic",
    "ChatAnthropicBedrock",
    "ChatBedrockConverse",
    "ChatDeepSeek",
    "ChatGoogleGenerativeAI",
    "ChatGroq",
    "ChatXAI",
    "ChatOllama",
]


def _thinking(name, address):
    """The model, set up to hand over what it thinks."""
    from langchain_google_genai import ChatGoogleGenerativeAI
    from langchain_ollama import ChatOllama

    match name:
        case "ChatGoogleGenerativeAI":
            return ChatGoogleGenerativeAI(
                model="gemini-2.5-flash", api_key=KEY, include_thoughts=True
            )
        case "ChatOllama":
            return ChatOllama(model="deepseek-r1", base_url=address, reasoning=True)
    return INTEGRATIONS[name].make()


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize("name", WITH_REASONING)
def test_reasoning_is_the_first_token_where_it_comes_first(observe, local_url, name, way):
    model = _thinking(name, local_url)
    outcome = observe(CALLS[way], model, Answer(reasoning="I think."), timed=True)
    assert outcome.error is None
    _is_counted_from_the_first_content(outcome)


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize("name", [one.name for one in INTEGRATIONS.values() if one.has_tools])
def test_the_first_delta_of_a_tool_call_is_the_first_token(observe, local_url, name, way):
    integration = INTEGRATIONS[name]
    model = integration.make(*(local_url,) * integration.needs_address).bind_tools([weather])
    outcome = observe(CALLS[way], model, Answer(tool="weather"), timed=True)
    assert outcome.error is None
    (call,) = outcome.calls
    if (
        outcome.handed.first_tokens
        and outcome.handed.first_tokens[0] - call.first_content > WAIT / 2
    ):
        assert (name, way) == ("ChatCohere", "astream")  # hands the whole call over at the end
        return
    _is_counted_from_the_first_content(outcome)


@pytest.mark.parametrize("way", STREAMS)
def test_claude_with_thinking_and_tools_hands_over_lists_of_blocks(observe, way):
    """Neither the block that opens a text, nor one that opens reasoning, has content."""
    model = INTEGRATIONS["ChatAnthropic"].make().bind_tools([weather])
    for answer in (Answer(), Answer(reasoning="I think."), Answer(tool="weather")):
        outcome = observe(CALLS[way], model, answer, timed=True)
        assert outcome.error is None
        _is_counted_from_the_first_content(outcome)


def _is_counted_from_the_first_content(outcome):
    assert outcome.page.sum("agent_llm_time_to_first_token_seconds_count") == 1
    assert outcome.page.sum("agent_llm_time_to_first_token_seconds_sum") >= WAIT
    assert outcome.seconds_after_first_token == pytest.approx(outcome.seconds_left, abs=WAIT / 2)
