"""Beside other handlers of LangChain, and with input that nobody expects."""

import asyncio
import threading
import uuid

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.callbacks import manager as callback_managers
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langchain_openai import ChatOpenAI

from otel_coach.testing import measuring
from tests.support.agents import CALLS, KeepsIds, acollect, collect, quick_tool
from tests.support.conservation import started

# Cut off by the consumer


@pytest.mark.parametrize("kind", ["chat model", "text model", "tool"])
def test_other_handlers_are_told_what_they_are_told_without_us(measured, model, kind):
    keeps = KeepsIds()
    config = {"callbacks": [keeps]}
    text_model = FakeListLLM(responses=["fine"])
    ways = {
        "chat model": lambda: model.ainvoke("hi", config),
        "text model": lambda: text_model.ainvoke("hi", config),
        "tool": lambda: quick_tool.ainvoke({}, config),
    }
    asyncio.run(ways[kind]())
    assert len(keeps.ids) == 1
    counter = "agent_tool_calls_total" if kind == "tool" else CALLS
    assert measured.page().sum(counter, status="ok") == measured.page().sum(counter) == 1


class Listening(BaseCallbackHandler):
    def __init__(self, *, run_inline=False):
        self.run_inline = run_inline
        self.heard = []

    def on_llm_new_token(self, token, *, chunk=None, run_id, parent_run_id=None, **kwargs):
        self.heard.append((token, chunk.message.content, type(run_id), sorted(kwargs)))


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("how", ["stream", "astream", "astream_events"])
def test_other_handlers_hear_every_chunk_as_without_us(provider, how, inline):
    async def heard():
        model = ChatOpenAI(
            model="gpt-3.5-turbo", api_key="k", base_url=provider.base_url, max_retries=0
        )
        listening = Listening(run_inline=inline)
        config = {"callbacks": [listening]}
        if how == "stream":
            collect(model.stream("one two three", config))
        elif how == "astream":
            await acollect(model.astream("one two three", config))
        else:
            await acollect(model.astream_events("one two three", config, version="v2"))
        return listening.heard

    async def both():  # langchain-openai's pool of connections belongs to one event loop
        without_us = await heard()
        with measuring():
            return without_us, await heard()

    without_us, with_us = asyncio.run(both())
    assert with_us == without_us
    assert len(without_us) > 3


def test_a_handler_added_while_a_call_streams_hears_the_rest(measured):
    manager = CallbackManager.configure()
    (run,) = manager.on_chat_model_start({}, [[HumanMessage("hi")]])
    late = Listening(run_inline=True)
    chunk = ChatGenerationChunk(message=AIMessageChunk("x"))
    run.on_llm_new_token("x", chunk=chunk)
    run.handlers.append(late)
    run.on_llm_new_token("x", chunk=chunk)
    run.on_llm_end(LLMResult(generations=[[chunk]]))
    assert len(late.heard) == 1
    page = measured.page()
    assert page.sum(CALLS, mode="stream", status="ok") == 1
    assert page.sum("agent_llm_time_to_first_token_seconds_count") == 1


# The mode


@pytest.mark.parametrize("run_id", ["4b2ff6d4-7fd5-4bd9-a1b1-4a7b4e6f9d11", uuid.uuid4()])
def test_a_run_id_of_the_callers_own_may_be_text(measured, model, run_id):
    model.invoke("hi", {"run_id": run_id})
    page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 1
    assert page.sum("otel_coach_errors_total") == 0


# Broken input


def methods_of_managers(module):
    return {
        (cls.__name__, name): method
        for cls in vars(module).values()
        if isinstance(cls, type) and cls.__module__ == module.__name__
        for name, method in vars(cls).items()
        if callable(method)
    }


def test_uninstrumenting_takes_every_hook_back():
    before = methods_of_managers(callback_managers)
    with measuring():
        during = methods_of_managers(callback_managers)
        assert sum(during[key] is not before[key] for key in before) >= 2 * (5 + 8)
    assert methods_of_managers(callback_managers) == before


def test_two_calls_at_once_that_have_one_id_are_two_calls(measured):
    manager = CallbackManager.configure()
    run_id = uuid.uuid4()
    (one,) = manager.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=run_id)
    (two,) = manager.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=run_id)
    chunk = ChatGenerationChunk(message=AIMessageChunk("x"))
    for run in (one, two):
        run.on_llm_end(LLMResult(generations=[[chunk]]))
    page = measured.page()
    assert page.sum(CALLS, status="aborted") == page.sum(CALLS, status="ok") == 1


def test_runs_may_be_reported_by_keywords_and_with_any_others(measured):
    manager = CallbackManager.configure()
    others = {"task": "a user's", "made": "of wood", "name": "n"}
    chain = manager.on_chain_start(serialized=None, inputs={}, **others)
    inside = chain.get_child()
    (chat,) = inside.on_chat_model_start(serialized={}, messages=[[HumanMessage("a")]], **others)
    (text,) = inside.on_llm_start(serialized={}, prompts=["a"], **others)
    used = inside.on_tool_start(serialized={"name": "pace"}, input_str="", **others)
    found = inside.on_retriever_start(serialized={}, query="", **others)
    chunk = ChatGenerationChunk(message=AIMessageChunk("x"))
    chat.on_llm_end(response=LLMResult(generations=[[chunk]]), **others)
    text.on_llm_error(error=ValueError(), **others)
    used.on_tool_end(output="", **others)
    found.on_retriever_end(documents=[], **others)
    chain.on_chain_end(outputs={}, **others)
    page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS, status="error") == 1
    assert page.sum("agent_tool_calls_total", tool_name="pace", status="ok") == 1
    assert page.sum("otel_coach_errors_total") == 0


def test_a_chain_that_is_started_once_more_for_tracers_is_one_run(measured, model):
    """As by LangGraph, where its tracers are to be given another input than the others."""
    chains = CallbackManager.configure()
    outer = chains.on_chain_start(None, {"mode": "chat"}, name="outer")
    chains.on_chain_start(None, {}, name="outer", run_id=outer.run_id)
    inside = outer.get_child()
    inside.add_tags(["graph:step:1"])
    step = inside.on_chain_start(None, {})
    model.invoke("hi", {"callbacks": step.get_child()})
    step.on_chain_end({})
    outer.on_chain_end({})
    outer.on_chain_end({})
    assert {span.name for span in measured.spans} == {"invoke_agent outer", "chat gpt-3.5-turbo"}
    assert len(measured.spans) == 2
    assert measured.page().sum(CALLS, mode="chat") == 1


class Refusing(BaseCallbackHandler):
    raise_error = True

    def on_chat_model_start(self, *_, **__):
        raise PermissionError


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_call_that_another_handler_forbids_is_no_call(measured, provider, model, asynchronous):
    config = {"callbacks": [Refusing()]}
    with pytest.raises(PermissionError):
        asyncio.run(model.ainvoke("hi", config)) if asynchronous else model.invoke("hi", config)
    started.clear()  # the witness was told of it
    assert provider.ledger == []
    assert measured.page().sum(CALLS) == 0
    assert measured.spans == ()


def test_a_thread_of_the_applications_own_is_no_problem(measured, model):
    thread = threading.Thread(target=model.invoke, args=("hi",))
    thread.start()
    thread.join()
    assert measured.page().sum(CALLS, status="ok") == 1
