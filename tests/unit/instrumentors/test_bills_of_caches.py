"""Answers of caches, addresses that were asked, and answers that cannot be used: what they cost."""

import asyncio
from uuid import uuid4

import openai
import pytest
from langchain_core.caches import BaseCache
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import (
    ChatGeneration,
    Generation,
    LLMResult,
)
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.support.conservation import started
from tests.support.direct_calls import http_library
from tests.support.scripted_model import CALLS, COST, UNMEASURED, Scripted, counted, unmeasured
from tests.support.versions import CACHES_MAY_KEEP_TEXT, HANDS_OVER_REFUSED_ANSWERS

MTOK = 1_000_000


# Caches


class TextCache(BaseCache):
    """A cache that keeps text only, as semantic caches do."""

    def lookup(self, prompt, llm_string):
        return [Generation(text="kept")]

    def update(self, prompt, llm_string, return_val):
        pass

    def clear(self, **kwargs):
        pass


@pytest.mark.skipif(not CACHES_MAY_KEEP_TEXT, reason="this LangChain rejects such an answer")
@pytest.mark.parametrize("is_async", [False, True])
def test_an_answer_of_a_cache_that_keeps_text_only_is_no_call(measured, is_async):
    model = Scripted(cache=TextCache())
    answer = asyncio.run(model.ainvoke("hi")) if is_async else model.invoke("hi")
    assert answer.content == "kept"
    started["LLM calls"] -= 1  # it never reached the provider
    page = measured.page()
    assert page.sum(CALLS) == page.sum(UNMEASURED) == 0


def test_a_message_without_an_id_is_a_call(measured):
    manager = CallbackManager.configure()
    (run,) = manager.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=uuid4())
    run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=AIMessage("said"))]]))
    assert measured.page().sum(CALLS, status="ok") == 1


# The address that was asked


@pytest.mark.parametrize(
    ("serialized", "priced"),
    [
        ({"kwargs": {"openai_api_base": "https://api.openai.com/v1"}}, True),
        ({"kwargs": {"openai_api_base": "http://10.1.2.3:8000/v1"}}, False),
        ({"kwargs": {"base_url": "http://10.1.2.3:8000/v1", "openai_proxy": "http://p"}}, False),
        ({"kwargs": {"openai_proxy": "http://10.1.2.3:3128"}}, True),
        ({"repr": "Chat(openai_api_base='http://10.1.2.3:8000/v1', client=<x>)"}, False),
        ({"repr": "Chat(client=<x>)"}, True),
        ({}, True),
    ],
)
def test_a_price_is_that_of_the_address(measured, serialized, priced):
    manager = CallbackManager.configure(inheritable_metadata={"ls_provider": "openai"})
    (run,) = manager.on_chat_model_start(
        serialized, [[HumanMessage("hi")]], invocation_params={"model": "gpt-5"}
    )
    message = AIMessage("said", usage_metadata=counted(MTOK, 0))
    run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
    page = measured.page()
    assert page.sum(COST) == (1.25 if priced else 0)
    assert unmeasured(page) == ({} if priced else {"no_price": 1})


def test_a_model_that_only_its_text_names_has_its_name(measured):
    manager = CallbackManager.configure()
    text = "ChatHuggingFace(llm=HuggingFaceEndpoint(...), model_id='meta-llama/Llama-3.1-8B')"
    (run,) = manager.on_chat_model_start({"repr": text}, [[HumanMessage("hi")]])
    run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=AIMessage("said"))]]))
    assert measured.page().sum(CALLS, model="meta-llama/Llama-3.1-8B") == 1


def test_of_a_search_of_openai_only_the_search_is_paid(measured):
    """platform.openai.com/docs/guides/tools-web-search: search actions incur a tool call cost."""
    actions = ["search", "open_page", "find_in_page", "search"]
    items = [{"type": "web_search_call", "action": {"type": action}} for action in actions]
    answer = AIMessage([*items, {"type": "text", "text": "hi"}], usage_metadata=counted(1000, 100))
    Scripted(answer=answer).invoke("hi")
    page = measured.page()
    assert page.sum(COST) == pytest.approx((1000 * 1.25 + 100 * 10) / MTOK + 2 * 10 / 1000)
    assert unmeasured(page) == {}


def test_fast_mode_has_its_price(measured):
    """docs.claude.com, Fast mode: Opus 4.8 costs 10 and 50 USD for a million tokens."""
    block = {"input_tokens": 1000, "output_tokens": 100, "speed": "fast"}
    answer = AIMessage("hi", response_metadata={"usage": block})
    Scripted(answer=answer, provider="anthropic", model_name="claude-opus-4-8").invoke("hi")
    assert measured.page().sum(COST) == pytest.approx((1000 * 10 + 100 * 50) / MTOK)


def test_a_call_whose_answer_cannot_be_used_is_billed(measured):
    """The package raises for an answer that the limit has cut."""

    class Plan(BaseModel):
        weeks: int

    message = {"role": "assistant", "content": '{"wee'}
    answer = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5",
        "choices": [{"index": 0, "finish_reason": "length", "message": message}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 50, "total_tokens": 57},
    }
    module = http_library()
    transport = module.MockTransport(lambda _request: module.Response(200, json=answer))
    client = module.Client(transport=transport)
    model = ChatOpenAI(model="gpt-5", api_key="k", http_client=client)
    structured = model.with_structured_output(Plan, method="json_schema")
    with pytest.raises(openai.LengthFinishReasonError):
        structured.invoke("hi")
    page = measured.page()
    assert page.sum(CALLS, status="error", error_type="LengthFinishReasonError") == 1
    if not HANDS_OVER_REFUSED_ANSWERS:
        assert unmeasured(page) == {"no_usage": 1}
        return
    assert page.sum("agent_llm_tokens_total", mode="prompt") == 7
    assert page.sum("agent_llm_tokens_total", mode="completion") == 50
    assert page.sum(COST) == pytest.approx((7 * 1.25 + 50 * 10) / MTOK)
    assert unmeasured(page) == {}
