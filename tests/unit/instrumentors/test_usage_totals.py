"""Reasoning that a provider counts beside the completion: the total has it, and the bill too."""

import json

import pytest
from langchain_core.messages import AIMessageChunk

from otel_coach.instrumentors.genai.billing import usage_of
from otel_coach.instrumentors.genai.direct_call import as_object
from otel_coach.instrumentors.genai.usage_blocks import usage_in, usage_of_chunks
from otel_coach.instrumentors.openai.calls import ChatCall
from otel_coach.pricing.price_list import Usage
from tests.support.scripted_model import Scripted, counted

XAI = {  # docs.x.ai, reasoning
    "prompt_tokens": 32,
    "completion_tokens": 9,
    "total_tokens": 135,
    "prompt_tokens_details": {
        "text_tokens": 32,
        "audio_tokens": 0,
        "image_tokens": 0,
        "cached_tokens": 6,
    },
    "completion_tokens_details": {
        "reasoning_tokens": 94,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
XAI_LONG = {
    "prompt_tokens": 32,
    "completion_tokens": 300,
    "total_tokens": 532,
    "completion_tokens_details": {"reasoning_tokens": 200},
}
GEMINI = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 600}
OPENAI = {
    "prompt_tokens": 10,
    "completion_tokens": 300,
    "total_tokens": 310,
    "completion_tokens_details": {"reasoning_tokens": 200},
}
TOO_LOW = {**OPENAI, "total_tokens": 1}
READ = [
    pytest.param(XAI, Usage(32, 103, cached=6, reasoning=94), id="xAI"),
    pytest.param(XAI_LONG, Usage(32, 500, reasoning=200), id="xAI, more text than reasoning"),
    pytest.param(GEMINI, Usage(10, 590), id="Gemini"),
    pytest.param(OPENAI, Usage(10, 300, reasoning=200), id="OpenAI"),
    pytest.param(TOO_LOW, Usage(10, 300, reasoning=200), id="a total that is too low"),
]


def by_langchain(block):
    """What langchain-openai makes of it."""
    prompt = block.get("prompt_tokens_details", {})
    completion = block.get("completion_tokens_details", {})
    return {
        "input_tokens": block["prompt_tokens"],
        "output_tokens": block["completion_tokens"],
        "total_tokens": block["total_tokens"],
        "input_token_details": {"cache_read": prompt.get("cached_tokens", 0)},
        "output_token_details": {"reasoning": completion.get("reasoning_tokens", 0)},
    }


@pytest.mark.parametrize(("block", "usage"), READ)
def test_the_completion_is_all_that_the_total_has_besides_the_prompt(block, usage):
    assert usage_in(block) == usage
    handed_over = by_langchain(block)
    assert usage_in(handed_over) == usage
    assert usage_of_chunks([handed_over]) == usage


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(("block", "usage"), READ)
def test_a_call_by_langchain_has_the_whole_completion(measured, block, usage, streams):
    message = AIMessageChunk("hi", usage_metadata=by_langchain(block))
    if streams:
        assert list(Scripted(chunks=[AIMessageChunk("hi"), message]).stream("hi"))
    else:
        Scripted(answer=message, llm_output={"token_usage": block}).invoke("hi")
    page = measured.page()
    tokens = "agent_llm_tokens_total"
    assert page.sum(tokens, mode="prompt") == usage.prompt
    assert page.sum(tokens, mode="completion") == usage.completion
    assert page.sum("agent_llm_reasoning_tokens_total") == usage.reasoning
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == 0


def test_what_a_cache_has_beside_the_prompt_is_no_completion():
    block = counted(30, 8, input_token_details={"cache_read": 20}) | {"total_tokens": 58}
    assert usage_in(block) == Usage(30, 8, cached=20)


def test_a_total_without_a_prompt_tells_nothing_of_the_completion():
    assert usage_in(counted(0, 8) | {"total_tokens": 58}) == Usage(0, 8)


def test_a_total_that_is_ahead_of_the_counts_in_a_stream_is_not_counted_twice():
    first = counted(10, 1) | {"total_tokens": 41}  # its 30 of reasoning follow by name
    second = counted(0, 34, output_token_details={"reasoning": 30}) | {"total_tokens": 4}
    assert usage_of_chunks([first, second]) == Usage(10, 35, reasoning=30)


def test_of_running_totals_the_last_one_has_the_whole_completion():
    running = [{**GEMINI, "completion_tokens": n, "total_tokens": 300 + n} for n in (1, 3)]
    assert usage_of_chunks([*running, GEMINI]) == Usage(10, 590)


@pytest.mark.parametrize(("block", "usage"), READ)
def test_a_call_by_the_package_has_the_whole_completion(block, usage):
    answer = as_object(json.dumps({"model": "grok-3-mini", "choices": [], "usage": block}))
    whole, streamed = ChatCall(None, {}, "openai"), ChatCall(None, {}, "openai")
    whole.answer_came(answer)
    streamed.chunk_came(answer)
    assert usage_of(whole.billing()) == usage_of(streamed.billing()) == usage
