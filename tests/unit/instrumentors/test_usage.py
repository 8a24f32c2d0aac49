"""Providers' usage blocks, as their documentation shows them, read and priced."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from otel_coach.instrumentors.genai.billing import billing_of, usage_of
from otel_coach.pricing.price_list import Usage
from tests.support.scripted_model import Scripted

MTOK = 1_000_000


OPENAI_CHAT = {  # platform.openai.com, prompt caching
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 64,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
OPENAI_AUDIO = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 50},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 5},
}
OPENAI_RESPONSES = {  # platform.openai.com, the response object
    "input_tokens": 328,
    "input_tokens_details": {"cached_tokens": 128},
    "output_tokens": 52,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 380,
}
ANTHROPIC = {  # docs.anthropic.com, prompt caching with both times to live
    "input_tokens": 2048,
    "cache_read_input_tokens": 1800,
    "cache_creation_input_tokens": 248,
    "output_tokens": 503,
    "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
}
ANTHROPIC_WITHOUT_CACHE = {
    "input_tokens": 21,
    "output_tokens": 393,
    "cache_creation_input_tokens": None,
    "cache_read_input_tokens": None,
    "cache_creation": None,
}
LANGCHAIN_ANTHROPIC = {  # the same call as langchain-anthropic hands it over
    "input_tokens": 2048 + 1800 + 248,
    "output_tokens": 503,
    "total_tokens": 2048 + 1800 + 248 + 503,
    "input_token_details": {
        "cache_read": 1800,
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": 148,
        "ephemeral_1h_input_tokens": 100,
    },
}
BEDROCK = {  # docs.aws.amazon.com, TokenUsage
    "inputTokens": 30,
    "outputTokens": 628,
    "totalTokens": 1658,
    "cacheReadInputTokens": 1000,
    "cacheWriteInputTokens": 0,
}
GEMINI = {  # ai.google.dev, UsageMetadata with a cached content and a thinking model
    "prompt_token_count": 2152,
    "cached_content_token_count": 1024,
    "candidates_token_count": 992,
    "thoughts_token_count": 1336,
    "total_token_count": 4480,
}
GEMINI_LONG = {
    "prompt_token_count": 200_001,
    "candidates_token_count": 100,
    "total_token_count": 200_101,
}
OLLAMA = {  # docs.ollama.com, usage
    "model": "gemma3",
    "created_at": "2025-10-17T23:14:07.414671Z",
    "done": True,
    "done_reason": "stop",
    "total_duration": 174560334,
    "load_duration": 101397084,
    "prompt_eval_count": 11,
    "prompt_eval_duration": 13074791,
    "eval_count": 18,
    "eval_duration": 52479709,
}
# An older price list has no price for what a cache keeps for an hour: then there is none at all.
WITH_CACHE_OF_AN_HOUR = (2048 * 3 + 1800 * 0.3 + 148 * 3.75 + 100 * 6 + 503 * 15) / MTOK
# Where LangChain's integrations leave a provider's own block.
IN_LLM_OUTPUT, IN_METADATA, IN_METADATA_ITSELF, IN_MESSAGE = range(4)


def answering(block, where, *, model="m", provider="p"):
    message = AIMessage("hi")
    llm_output = None
    if where == IN_LLM_OUTPUT:
        llm_output = {"token_usage": block}
    elif where == IN_METADATA:
        message.response_metadata = {"usage": block}
    elif where == IN_METADATA_ITSELF:
        message.response_metadata = block
    else:
        message.usage_metadata = block
    return Scripted(answer=message, llm_output=llm_output, model_name=model, provider=provider)


@pytest.mark.parametrize(
    ("block", "where", "provider", "model", "usage", "dollars"),
    [
        # Published prices, US dollars for a million tokens, multiplied out by hand.
        pytest.param(
            OPENAI_CHAT,
            IN_LLM_OUTPUT,
            "openai",
            "gpt-4o",
            (2006, 300, 1920, 64),
            (86 * 2.5 + 1920 * 1.25 + 300 * 10) / MTOK,
            id="OpenAI chat completions",
        ),
        pytest.param(
            OPENAI_AUDIO,
            IN_LLM_OUTPUT,
            "openai",
            "gpt-audio",
            (100, 10, 0, 0),
            (50 * 2.5 + 50 * 32 + 5 * 10 + 5 * 64) / MTOK,
            id="OpenAI audio",
        ),
        pytest.param(
            OPENAI_RESPONSES,
            IN_METADATA,
            "openai",
            "gpt-5",
            (328, 52, 128, 20),
            (200 * 1.25 + 128 * 0.125 + 52 * 10) / MTOK,
            id="OpenAI responses",
        ),
        pytest.param(
            ANTHROPIC,
            IN_METADATA,
            "anthropic",
            "claude-sonnet-4-5",
            (4096, 503, 1800, 0),
            WITH_CACHE_OF_AN_HOUR,
            id="Anthropic's own block",
        ),
        pytest.param(
            LANGCHAIN_ANTHROPIC,
            IN_MESSAGE,
            "anthropic",
            "claude-sonnet-4-5",
            (4096, 503, 1800, 0),
            WITH_CACHE_OF_AN_HOUR,
            id="Anthropic by LangChain",
        ),
        pytest.param(
            ANTHROPIC_WITHOUT_CACHE,
            IN_METADATA,
            "anthropic",
            "claude-sonnet-4-5",
            (21, 393, 0, 0),
            (21 * 3 + 393 * 15) / MTOK,
            id="Anthropic without a cache",
        ),
        pytest.param(
            BEDROCK,
            IN_METADATA,
            "bedrock_converse",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            (1030, 628, 1000, 0),
            (30 * 3 + 1000 * 0.3 + 628 * 15) / MTOK,
            id="Bedrock",
        ),
        pytest.param(
            GEMINI,
            IN_METADATA,
            "google_genai",
            "gemini-2.5-pro",
            (2152, 2328, 1024, 1336),
            (1128 * 1.25 + 1024 * 0.125 + 2328 * 10) / MTOK,
            id="Gemini",
        ),
        pytest.param(
            GEMINI_LONG,
            IN_METADATA,
            "google_genai",
            "gemini-2.5-pro",
            (200_001, 100, 0, 0),
            (200_001 * 2.5 + 100 * 15) / MTOK,
            id="Gemini above its first tier",
        ),
        pytest.param(
            OLLAMA, IN_METADATA_ITSELF, "ollama", "gemma3", (11, 18, 0, 0), None, id="Ollama"
        ),
    ],
)
def test_a_providers_documented_block(measured, block, where, provider, model, usage, dollars):
    answering(block, where, model=model, provider=provider).invoke("hi")
    page = measured.page()
    tokens = "agent_llm_tokens_total"
    assert (
        page.sum(tokens, model=model, mode="prompt"),
        page.sum(tokens, model=model, mode="completion"),
        page.sum("agent_llm_cached_tokens_total", model=model),
        page.sum("agent_llm_reasoning_tokens_total", model=model),
    ) == usage
    unpriced = page.sum("agent_llm_unmeasured_total", error_type="no_price")
    assert unpriced == (dollars is None)
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == 0
    assert page.sum("agent_llm_cost_usd_total") == pytest.approx(dollars or 0, abs=1e-9)


def test_measured_and_unmeasured_and_refused_are_all_calls(measured):
    class Refusing(Scripted):
        def _generate(self, *args, **kwargs):
            raise ConnectionError

    told = answering(OPENAI_CHAT, IN_LLM_OUTPUT, model="gpt-4o", provider="openai")
    calls = {
        "measured": told,
        "no_usage": answering({"tokens": 3}, IN_LLM_OUTPUT, model="gpt-4o", provider="openai"),
        "no_price": told.model_copy(update={"model_name": "of-our-own"}),
        "refused": Refusing(model_name="gpt-4o", provider="openai"),
    }
    for times, (kind, model) in enumerate(calls.items(), start=1):
        for _ in range(times):
            if kind == "refused":
                with pytest.raises(ConnectionError):
                    model.invoke("hi")
            else:
                model.invoke("hi")
    page = measured.page()
    unmeasured = "agent_llm_unmeasured_total"
    assert page.sum("agent_llm_requests_total") == 1 + 2 + 3 + 4
    assert page.sum(unmeasured, error_type="no_usage") == 2
    assert page.sum(unmeasured, error_type="no_price", model="of-our-own") == 3
    assert page.sum("agent_llm_requests_total", status="error") == 4
    assert page.sum(unmeasured) == 5
    once = (86 * 2.5 + 1920 * 1.25 + 300 * 10) / MTOK
    assert page.sum("agent_llm_cost_usd_total") == pytest.approx(1 * once, abs=1e-9)


def result(message, **llm_output):
    return LLMResult(generations=[[ChatGeneration(message=message)]], llm_output=llm_output)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "12",
        {"input_tokens": "3", "output_tokens": 4, "total_tokens": 7},
        {"input_tokens": -3, "output_tokens": 4, "total_tokens": 1},
        {"input_tokens": True, "output_tokens": 4, "total_tokens": 5},
        {"input_tokens": 10**30, "output_tokens": 4, "total_tokens": 5},
        {"input_tokens": 3},
        {"input_tokens": 1, "output_tokens": 1, "input_token_details": {"cache_read": 9}},
        {"input_tokens": 1, "output_tokens": 1, "output_token_details": {"audio": 9}},
        {"input_tokens": float("nan"), "output_tokens": 1},
    ],
)
def test_a_broken_usage_block_is_no_usage(usage):
    message = AIMessage("hi")
    message.usage_metadata = usage
    assert usage_of(billing_of(result(message))) is None


@pytest.mark.parametrize("response", [None, 7, "text", object(), {"generations": 3}])
def test_a_response_of_a_strange_kind_is_no_usage(response):
    assert usage_of(billing_of(response)) is None


def test_the_parts_that_only_the_providers_own_block_has_are_taken_from_there():
    message = AIMessage("hi")
    message.usage_metadata = {"input_tokens": 20, "output_tokens": 10, "total_tokens": 30}
    block = {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    assert usage_of(billing_of(result(message, token_usage=block))) == Usage(20, 10, cached=5)
    block["prompt_tokens"] = 21  # another call's, perhaps: the message's own sums stand
    assert usage_of(billing_of(result(message, token_usage=block))) == Usage(20, 10)
