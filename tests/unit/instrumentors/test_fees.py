"""What is paid besides the tokens of the totals: searches, regions, compactions."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from otel_coach.instrumentors.genai.billing import billing_of, fees_of
from otel_coach.instrumentors.genai.usage_blocks import usage_in
from tests.support.scripted_model import Scripted, counted, unmeasured


@pytest.mark.parametrize(
    ("model", "queries", "searches"),
    [("gemini-2.5-flash", ["a", "b"], 1), ("gemini-3-pro-preview", ["a", "b", "a", ""], 2)],
)
def test_gemini_bills_prompts_and_from_version_3_on_searches(model, queries, searches):
    """ai.google.dev/gemini-api/docs/google-search, Pricing."""
    metadata = {"grounding_metadata": {"web_search_queries": queries}, "model_name": model}
    answer = AIMessage("hi", usage_metadata=counted(1000, 100), response_metadata=metadata)
    assert fees_of(billing_of(result(answer))) == {"web_searches": searches}


def test_a_search_in_langchains_own_form_is_paid():
    """`output_version="v1"` of ChatOpenAI: langchain_core.messages.block_translators.openai."""
    calls = [
        {"type": "server_tool_call", "name": "web_search", "id": "w", "args": {"type": kind}}
        for kind in ("search", "open_page")
    ]
    calls.append({"type": "server_tool_call", "name": "file_search", "id": "f", "args": {}})
    assert fees_of(billing_of(result(AIMessage(calls)))) == {
        "web_searches": 1,
        "storage_searches": 1,
    }


def test_claude_in_the_us_costs_more_than_the_list_knows(measured):
    block = {"input_tokens": 1000, "output_tokens": 100, "inference_geo": "us"}
    answer = AIMessage("hi", response_metadata={"usage": block})
    Scripted(answer=answer, provider="anthropic", model_name="claude-opus-4-8").invoke("hi")
    assert unmeasured(measured.page()) == {"extra_fee": 1}


BEDROCK_SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(
    ("asked_for", "usd"),
    [
        (f"global.{BEDROCK_SONNET}", 18.0),
        (f"us.{BEDROCK_SONNET}", 19.8),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x", 19.8),
    ],
)
def test_on_bedrock_only_the_id_that_was_asked_for_tells_the_region(measured, asked_for, usd):
    """aws.amazon.com/bedrock/pricing: a million tokens of each kind; the answer has no region."""
    answer = AIMessage(
        "hi",
        usage_metadata=counted(1_000_000, 1_000_000),
        response_metadata={"model_name": "claude-sonnet-4-5-20250929"},
    )
    Scripted(answer=answer, provider="anthropic-bedrock", model_name=asked_for).invoke("hi")
    assert measured.page().sum("agent_llm_cost_usd_total") == pytest.approx(usd)


def test_elsewhere_the_models_name_in_the_answer_is_the_more_exact_one(measured):
    answer = AIMessage(
        "hi",
        usage_metadata=counted(1_000_000, 1_000_000),
        response_metadata={"model_name": "gpt-4o-mini-2024-07-18"},
    )
    Scripted(answer=answer, provider="openai", model_name="gpt-4o").invoke("hi")
    assert measured.page().sum("agent_llm_cost_usd_total") == pytest.approx(0.75)


def test_a_compaction_is_billed_beside_the_totals():
    """anthropic.types.beta.BetaUsage: its tokens are not in the top-level fields."""
    tokens = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    usage = {
        "input_tokens": 100,
        "output_tokens": 10,
        **tokens,
        "iterations": [
            {"type": "compaction", "input_tokens": 150_000, "output_tokens": 3000, **tokens},
            {"type": "message", "input_tokens": 100, "output_tokens": 10, **tokens},
        ],
    }
    found = usage_in(usage)
    assert (found.prompt, found.completion) == (150_100, 3010)


def result(message):
    return LLMResult(generations=[[ChatGeneration(message=message)]])
