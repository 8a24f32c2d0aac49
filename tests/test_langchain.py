"""LLM calls, tools and agents: real ChatOpenAI over real HTTP, against the provider's ledger."""

import asyncio
import contextvars
import enum
import gc
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypedDict

import pytest
from conftest import alone, eventually
from conservation import conserved, started
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.callbacks import manager as callback_managers
from langchain_core.language_models import LLM, FakeListLLM
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from opentelemetry import trace

import otel_coach
from demo.versions import STREAMS_TELL_PARTS
from otel_coach.instrumentors.langchain import LangChainInstrumentor
from otel_coach.testing import measuring

CALLS = "agent_llm_requests_total"
TOKENS = "agent_llm_tokens_total"


@pytest.fixture
def model(provider):
    return ChatOpenAI(
        model="gpt-3.5-turbo",
        api_key="k",
        base_url=provider.base_url,
        stream_usage=True,
        max_retries=0,
        timeout=10,
    )


def collect(stream):
    return list(stream)


async def acollect(stream):
    return [chunk async for chunk in stream]


def chain(model):
    return ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()


TEXT = "[cached:2] [reasoning:3] one"
WAYS = {
    "invoke": lambda m: m.invoke(TEXT),
    "ainvoke": lambda m: asyncio.run(m.ainvoke(TEXT)),
    "stream": lambda m: collect(m.stream(TEXT)),
    "astream": lambda m: asyncio.run(acollect(m.astream(TEXT))),
    "batch": lambda m: m.batch([TEXT, TEXT, TEXT]),
    "abatch": lambda m: asyncio.run(m.abatch([TEXT, TEXT])),
    "generate": lambda m: m.generate([[HumanMessage(TEXT)], [HumanMessage(TEXT)]]),
    "astream_events v2": lambda m: asyncio.run(acollect(m.astream_events(TEXT, version="v2"))),
    "chain": lambda m: chain(m).invoke({"text": TEXT}),
    "chain astream": lambda m: asyncio.run(acollect(chain(m).astream({"text": TEXT}))),
    "own callbacks": lambda m: m.invoke(TEXT, config={"callbacks": [BaseCallbackHandler()]}),
    "thread": lambda m: ThreadPoolExecutor().submit(m.invoke, TEXT).result(),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_calling_equals_the_ledger(measured, provider, model, way):
    WAYS[way](model)
    ledger = provider.ledger
    page = measured.page()
    labels = {"model": "gpt-3.5-turbo", "status": "ok", "error_type": ""}
    assert ledger
    assert page.sum(CALLS, **labels) == page.sum(CALLS) == len(ledger)
    assert page.sum("agent_llm_latency_seconds_count", status="ok") == len(ledger)
    assert page.sum(TOKENS, mode="prompt") == sum(entry.prompt_tokens for entry in ledger)
    assert page.sum(TOKENS, mode="completion") == sum(entry.completion_tokens for entry in ledger)
    telling = [entry for entry in ledger if STREAMS_TELL_PARTS or not entry.stream]
    assert page.sum("agent_llm_cached_tokens_total") == 2 * len(telling)
    assert page.sum("agent_llm_reasoning_tokens_total") == 3 * len(telling)
    assert page.sum("agent_llm_unmeasured_total") == 0
    dollars = sum(((e.prompt_tokens * 0.5) + e.completion_tokens * 1.5) / 1_000_000 for e in ledger)
    assert page.sum("agent_llm_cost_usd_total") == pytest.approx(dollars, abs=1e-9)
    streamed = [entry for entry in ledger if entry.stream]
    assert page.sum(CALLS, mode="stream") == len(streamed)
    assert page.sum(CALLS, mode="invoke") == len(ledger) - len(streamed)
    assert page.sum("agent_llm_time_to_first_token_seconds_count") == len(streamed)
    assert page.sum("agent_llm_time_per_output_token_seconds_count") == len(streamed)


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ("[fail:429]", "error", "RateLimit"),
        ("[fail:401]", "error", "Authentication"),
        ("[fail:400]", "error", "BadRequest"),
        ("[fail:500]", "error", "APIError"),
        ("[cut]", "error", "Connection"),
        ("[garbage]", "error", "JSONDecodeError"),
    ],
)
@pytest.mark.parametrize("way", ["invoke", "stream", "astream"])
def test_a_failed_call_has_the_class_that_the_callback_received(
    measured, model, provider, text, status, error, way
):
    seen = []

    class Witness(BaseCallbackHandler):
        def on_llm_error(self, error, **_):
            seen.append(type(error).__name__)

    config = {"callbacks": [Witness()]}
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever class LangChain raises
        match way:
            case "invoke":
                model.invoke(text, config)
            case "stream":
                collect(model.stream(text, config))
            case "astream":
                asyncio.run(acollect(model.astream(text, config)))
    page = measured.page()
    assert len(seen) == 1
    assert page.sum(CALLS, status=status, error_type=seen[0]) == page.sum(CALLS) == 1
    # Refused before its first chunk: not billed. Cut after it: nobody knows.
    was_billed = any(entry.chunks_sent for entry in provider.ledger)
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == was_billed
    (span,) = measured.spans
    assert span.status.status_code.name == "ERROR"
    assert span.status.description is None
    assert span.attributes["error.type"] == seen[0]
    assert not span.events


def test_a_call_without_usage_is_unmeasured_and_not_guessed(measured, model):
    model.invoke("[no-usage]")
    collect(model.stream("[no-usage]"))
    page = measured.page()
    assert page.sum("agent_llm_unmeasured_total", model="gpt-3.5-turbo", error_type="no_usage") == 2
    assert page.sum(TOKENS) == 0
    assert page.sum(CALLS, status="ok") == 2


def test_a_model_without_a_price_is_unmeasured_but_its_tokens_count(measured, provider):
    own = ChatOpenAI(model="our-own-model", api_key="k", base_url=provider.base_url)
    own.invoke("hi")
    page = measured.page()
    assert page.sum("agent_llm_unmeasured_total", model="our-own-model", error_type="no_price") == 1
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == 0
    assert page.sum(TOKENS, model="our-own-model") > 0
    assert page.samples("agent_llm_cost_usd_total") == []


def test_the_first_token_is_the_first_with_content(measured, model):
    collect(model.stream("[empty]"))
    page = measured.page()
    assert page.sum(CALLS, mode="stream") == 1
    assert page.sum("agent_llm_time_to_first_token_seconds_count") == 0


def test_times_follow_the_provider(measured, model):
    collect(model.stream("[delay:0.3] [pace:0.02] [tokens:11]"))
    page = measured.page()
    first = page.sum("agent_llm_time_to_first_token_seconds_sum")
    pace = page.sum("agent_llm_time_per_output_token_seconds_sum")
    latency = page.sum("agent_llm_latency_seconds_sum")
    assert 0.3 <= first < latency
    assert latency >= 0.3 + 10 * 0.02
    assert pace >= 0.02 * 0.8
    assert pace * 10 <= latency - first + 0.05


# Cut off by the consumer


async def stop_astream(model):
    async for _ in model.astream("[pace:0.05]"):
        break


async def aclose_astream(model):
    stream = model.astream("[pace:0.05]")
    await anext(stream)
    await stream.aclose()


async def cancel_astream(model):
    async def consume():
        async for _ in model.astream("[pace:0.1]"):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def cancel_ainvoke(model):
    task = asyncio.create_task(model.ainvoke("[delay:5]"))
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def time_out_ainvoke(model):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await model.ainvoke("[delay:5]")


async def one_task_per_chunk(model):
    """As some frameworks do; the first task's end must not end the run."""
    stream = model.astream("[pace:0.02] [tokens:5]")
    chunks = 0
    while True:
        try:
            await asyncio.create_task(anext_(stream))
            chunks += 1
        except StopAsyncIteration:
            return


async def anext_(stream):
    return await anext(stream)


def close_stream(model):
    stream = model.stream("[pace:0.05]")
    next(stream)
    stream.close()


def drop_stream(model):
    stream = model.stream("[pace:0.05]")
    next(stream)
    del stream
    gc.collect()


@pytest.mark.parametrize(
    "way",
    [
        stop_astream,
        aclose_astream,
        cancel_astream,
        cancel_ainvoke,
        time_out_ainvoke,
        close_stream,
        drop_stream,
    ],
)
def test_a_call_cut_off_by_its_consumer_is_aborted_and_never_an_error(measured, model, way):
    result = way(model)
    if asyncio.iscoroutine(result):
        asyncio.run(result)
    eventually(lambda: measured.page().sum(CALLS) == 1)
    page = measured.page()
    assert page.sum(CALLS, status="aborted", error_type="") == 1
    assert page.sum("agent_llm_latency_seconds_count", status="aborted") == 1
    assert page.sum("agent_llm_latency_seconds_sum") < 2
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == 1
    (span,) = measured.spans
    assert span.attributes["otel_coach.outcome"] == "aborted"
    assert span.status.status_code.name == "UNSET"


class SlowLLM(LLM):
    """A text completion model, whose callbacks start in helper tasks."""

    @property
    def _llm_type(self):
        return "slow"

    def _call(self, prompt, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    async def _acall(self, prompt, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(5)


@tool
async def slow_tool() -> str:
    """Slow."""
    await asyncio.sleep(5)
    return ""


@tool
async def quick_tool() -> str:
    """Quick."""
    return ""


class KeepsIds(BaseCallbackHandler):
    """Holds the ids of runs for ever, as the tracer of an event stream in a pooled connection."""

    def __init__(self):
        self.ids = {}

    def on_chat_model_start(self, serialized, messages, *, run_id, **kwargs):
        self.ids[run_id] = serialized

    def on_llm_start(self, serialized, prompts, *, run_id, **kwargs):
        self.ids[run_id] = serialized

    def on_tool_start(self, serialized, input_str, *, run_id, **kwargs):
        self.ids[run_id] = serialized


@pytest.mark.parametrize("kind", ["chat model", "text model", "tool"])
def test_a_cancelled_call_is_aborted_though_somebody_keeps_its_id(measured, model, kind):
    keeps = KeepsIds()
    config = {"callbacks": [keeps]}
    calls = {
        "chat model": lambda: model.ainvoke("[delay:5]", config),
        "text model": lambda: SlowLLM().ainvoke("hi", config),
        "tool": lambda: slow_tool.ainvoke({}, config),
    }
    counter = "agent_tool_calls_total" if kind == "tool" else CALLS

    async def cut_off():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await calls[kind]()

    asyncio.run(cut_off())
    assert len(keeps.ids) == 1
    assert measured.page().sum(counter, status="aborted") == measured.page().sum(counter) == 1


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


@pytest.mark.parametrize(
    "first",
    [
        "langchain_core.callbacks",
        "langchain_core.callbacks.manager",
        "langchain_core.tracers.context",
        "langchain_core.language_models",
        "langchain_openai",
        "langgraph.graph",
    ],
)
def test_whatever_the_host_imports_first_calls_are_seen_from_then_on(first):
    script = f"""
import asyncio
from otel_coach.testing import measuring
with measuring() as measured:
    import {first}
    from langchain_core.callbacks import AsyncCallbackManager
    from langchain_core.language_models import FakeListChatModel
    asyncio.run(FakeListChatModel(responses=["a"]).ainvoke("hi"))
    print(measured.page().sum("agent_llm_requests_total", status="ok"))
    print(hasattr(AsyncCallbackManager.on_llm_start, "__wrapped__"))
print(hasattr(AsyncCallbackManager.on_llm_start, "__wrapped__"))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["1.0", "True", "False"], found.stderr
    assert not found.stderr


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


def test_a_stream_read_by_one_task_per_chunk_ends_once_and_well(measured, model):
    asyncio.run(one_task_per_chunk(model))
    page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 1
    assert page.sum(TOKENS, mode="completion") == 5


def kept_of_a_long_loop():
    import tracemalloc

    from langchain_core.language_models import FakeListChatModel

    model = FakeListChatModel(responses=["hi"])

    def loop(count):
        for _ in range(count):
            model.invoke("hi")
        measured.forget_spans()
        gc.collect()

    with measuring() as measured, conserved(measured):
        loop(200)
        tracemalloc.start()
        loop(200)
        before, _ = tracemalloc.get_traced_memory()
        loop(1000)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return after - before


def test_a_long_loop_in_one_context_keeps_nothing():
    assert alone(kept_of_a_long_loop) < 200 * 1000  # bytes: less than 200 for each call


def test_nothing_is_kept_of_ended_runs(measured, model):
    model.invoke("hi")
    asyncio.run(cancel_ainvoke(model))
    close_stream(model)
    eventually(lambda: measured.page().sum(CALLS) == 3)
    gc.collect()
    observer = LangChainInstrumentor().observer
    assert observer.recorder is measured.installation.providers.recorder
    assert len(observer._runs) == 0


# Agents and tools


class State(TypedDict):
    messages: Annotated[list, add_messages]
    mode: str


@tool
def pace(distance: int = 10) -> str:
    """A runner's pace."""
    seen_in_tool.append(trace.get_current_span().get_span_context().span_id)
    return f"{distance} km in 50 minutes"


@tool
async def broken(distance: int = 10) -> str:
    """Always fails."""
    raise ZeroDivisionError(distance)


seen_in_tool = []


def agent(model, *, asynchronous):
    bound = model.bind_tools([pace, broken])

    def node(state):
        return {"messages": [bound.invoke(state["messages"])]}

    async def anode(state):
        return {"messages": [await bound.ainvoke(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("model", anode if asynchronous else node)
    graph.add_node("tools", ToolNode([pace, broken], handle_tool_errors=False))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "model")
    return graph.compile()


def question(text):
    return {"messages": [HumanMessage(text)], "mode": "plan_generator"}


RUNS = {
    "invoke": lambda m, q: agent(m, asynchronous=False).invoke(q),
    "stream": lambda m, q: collect(agent(m, asynchronous=False).stream(q, stream_mode="messages")),
    "ainvoke, sync nodes": lambda m, q: asyncio.run(agent(m, asynchronous=False).ainvoke(q)),
    "ainvoke": lambda m, q: asyncio.run(agent(m, asynchronous=True).ainvoke(q)),
    "astream": lambda m, q: asyncio.run(
        acollect(agent(m, asynchronous=True).astream(q, stream_mode=["messages", "updates"]))
    ),
}


@pytest.mark.parametrize("way", RUNS)
def test_an_agents_spans_hang_together_also_from_worker_threads(measured, model, provider, way):
    seen_in_tool.clear()
    tracer = measured.installation.providers.tracer_provider.get_tracer("the application")
    with tracer.start_as_current_span("outside"):
        RUNS[way](model, question("[tool:pace] go"))
    by_name = {}
    for span in measured.spans:
        by_name.setdefault(span.name, []).append(span)
    (outside,) = by_name["outside"]
    (graph,) = by_name["invoke_agent LangGraph"]
    (tool_span,) = by_name["execute_tool pace"]
    chats = by_name["chat gpt-3.5-turbo"]
    assert len(measured.spans) == 5
    assert len({span.context.trace_id for span in measured.spans}) == 1
    assert graph.parent.span_id == outside.context.span_id
    assert [span.parent.span_id for span in (*chats, tool_span)] == [graph.context.span_id] * 3
    assert seen_in_tool == [tool_span.context.span_id]
    assert graph.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert tool_span.attributes["gen_ai.tool.name"] == "pace"
    first, last = chats
    entries = provider.ledger
    for span, entry in zip((first, last), entries, strict=True):
        assert dict(span.attributes) == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-3.5-turbo",
            "gen_ai.response.model": "gpt-3.5-turbo",
            "gen_ai.usage.input_tokens": entry.prompt_tokens,
            "gen_ai.usage.output_tokens": entry.completion_tokens,
            "gen_ai.response.finish_reasons": ("tool_calls",) if entry.tool_call else ("stop",),
        }
    page = measured.page()
    assert page.sum(CALLS, mode="plan_generator", status="ok") == 2
    assert page.samples("agent_tool_calls_total") == [
        ({"tool_name": "pace", "status": "ok", "error_type": ""}, 1)
    ]


def test_a_graph_without_a_name_is_an_agent(measured):
    for name in ({}, {"name": None}, {"name": "what a user asked?"}):
        graph = CallbackManager.configure().on_chain_start({}, {}, **name)
        inside = graph.get_child()
        inside.add_tags(["graph:step:1"])
        step = inside.on_chain_start({}, {})
        step.on_chain_end({})
        graph.on_chain_end({})
    assert [span.name for span in measured.spans] == ["invoke_agent agent"] * 3


def test_a_tool_that_raises_is_an_error_of_the_tool(measured, model):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(agent(model, asynchronous=True).ainvoke(question("[tool:broken] go")))
    page = measured.page()
    labels = {"tool_name": "broken", "status": "error", "error_type": "ZeroDivisionError"}
    assert page.samples("agent_tool_calls_total") == [(labels, 1)]
    assert page.sum("agent_tool_latency_seconds_count", tool_name="broken", status="error") == 1
    errors = {span.name for span in measured.spans if span.status.status_code.name == "ERROR"}
    assert errors == {"invoke_agent LangGraph", "execute_tool broken"}


def test_two_streams_interleaved_in_one_task_are_siblings(measured, model):
    async def both():
        async for _ in model.astream("[tokens:3]"):
            async for _ in model.astream("[tokens:2]"):
                pass

    tracer = measured.installation.providers.tracer_provider.get_tracer("the application")
    with tracer.start_as_current_span("outside") as outside:
        asyncio.run(both())
        parent = outside.get_span_context().span_id
    chats = [span for span in measured.spans if span.name.startswith("chat")]
    assert len(chats) >= 3
    assert {span.parent.span_id for span in chats} == {parent}


def test_a_run_leaves_no_span_current_behind_it(measured, model):
    before = trace.get_current_span().get_span_context()
    model.invoke("hi")
    assert trace.get_current_span().get_span_context() == before


def test_a_span_of_the_application_inside_a_node_keeps_its_place(measured, model):
    tracer = measured.installation.providers.tracer_provider.get_tracer("the application")

    def node(state):
        with tracer.start_as_current_span("my step"):
            return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.compile().invoke(question("hi"))
    spans = {span.name: span for span in measured.spans}
    chat, step = spans["chat gpt-3.5-turbo"], spans["my step"]
    graph_span = spans["invoke_agent LangGraph"]
    assert chat.parent.span_id == step.context.span_id
    assert step.parent.span_id == graph_span.context.span_id


# The mode


def mode_of(measured):
    ((labels, _),) = measured.page().samples(CALLS)
    return labels["mode"]


def test_labels_win_over_all_else(measured, model):
    with otel_coach.labels(mode="mine"):
        model.invoke("hi", {"metadata": {"mode": "metadata"}})
    assert mode_of(measured) == "mine"


def test_metadata_states_the_mode(measured, model):
    model.invoke("hi", {"metadata": {"mode": "metadata"}})
    assert mode_of(measured) == "metadata"


def test_the_configurable_states_the_mode(measured, model):
    config = {"configurable": {"mode": "configured"}}
    agent(model, asynchronous=False).invoke(question("hi"), config)
    assert mode_of(measured) == "configured"


def test_a_mode_that_is_no_identifier_is_none(measured, model):
    state = {"messages": [HumanMessage("hi")], "mode": "who are you?"}
    agent(model, asynchronous=False).invoke(state)
    assert mode_of(measured) == "invoke"


def test_a_mode_that_is_an_enums_member_is_its_text(measured, model):
    class Mode(str, enum.Enum):  # noqa: UP042 - its str() is not its value
        PLAN = "plan_generator"

    state = {"messages": [HumanMessage("hi")], "mode": Mode.PLAN}
    agent(model, asynchronous=False).invoke(state)
    assert mode_of(measured) == "plan_generator"


@pytest.mark.parametrize("run_id", ["4b2ff6d4-7fd5-4bd9-a1b1-4a7b4e6f9d11", uuid.uuid4()])
def test_a_run_id_of_the_callers_own_may_be_text(measured, model, run_id):
    model.invoke("hi", {"run_id": run_id})
    page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 1
    assert page.sum("otel_coach_errors_total") == 0


def test_a_run_name_that_is_a_sentence_is_no_span_name(measured, model):
    config = {"run_name": "coach for anna@example.org"}
    agent(model, asynchronous=False).invoke(question("hi"), config)
    assert not any("anna" in str((span.name, dict(span.attributes))) for span in measured.spans)
    assert any(span.name == "invoke_agent agent" for span in measured.spans)


def test_an_answer_from_langchains_cache_is_no_call(measured, provider):
    from langchain_core.caches import InMemoryCache

    cached = ChatOpenAI(
        model="gpt-3.5-turbo", api_key="k", base_url=provider.base_url, cache=InMemoryCache()
    )
    for _ in range(3):
        cached.invoke("hi")
    asyncio.run(cached.ainvoke("hi"))
    assert len(provider.ledger) == 1
    started["LLM calls"] -= 3  # they never reached the provider
    assert measured.page().sum(CALLS) == 1
    assert [s.attributes.get("otel_coach.outcome") for s in measured.spans] == [
        None,
        *["cached"] * 3,
    ]


def test_embeddings_are_no_calls_and_untouched(measured, provider):
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        api_key="k",
        base_url=provider.base_url,
        check_embedding_ctx_length=False,  # which would ask the network for a tokenizer
    )
    assert embeddings.embed_query("one two") == [7, 2]
    assert asyncio.run(embeddings.aembed_documents(["one", "two three"])) == [[3, 1], [9, 2]]
    page = measured.page()
    assert page.sum(CALLS) == page.sum(TOKENS) == page.sum("agent_llm_cost_usd_total") == 0
    assert not measured.spans


@pytest.mark.parametrize("mode", ["", "two words", "x" * 41, "naïve"])
def test_labels_refuses_what_could_not_be_a_label(mode):
    with pytest.raises(ValueError, match="mode="), otel_coach.labels(mode=mode):
        pass


# Broken input


def test_a_model_name_that_changes_with_every_request_stays_within_its_budget(measured, provider):
    options = {"api_key": "k", "base_url": provider.base_url}
    for number in range(40):
        ChatOpenAI(model=f"model-{number}", **options).invoke("[tokens:1]")
    page = measured.page()
    models = {labels["model"] for labels, _ in page.samples(CALLS)}
    assert len(models - {"other"}) == 20
    assert "other" in models
    assert page.sum(CALLS) == 40
    assert page.sum("otel_coach_label_overflow_total", error_type="model") > 0


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


def test_a_run_that_ended_is_current_no_more_wherever_it_was_started(measured):
    """All in one context: as in a script."""
    manager = CallbackManager.configure()
    graph = manager.on_chain_start({}, {})
    inside = graph.get_child()
    inside.add_tags(["graph:step:1"])
    step = inside.on_chain_start({}, {})
    (call,) = step.get_child().on_chat_model_start({}, [[HumanMessage("hi")]])
    during = trace.get_current_span().get_span_context()
    elsewhere = contextvars.Context()
    start = step.get_child().on_chat_model_start
    (other,) = elsewhere.run(start, {}, [[HumanMessage("hi")]])
    for run in (call, other):
        run.on_llm_end(LLMResult(generations=[[ChatGenerationChunk(message=AIMessageChunk("x"))]]))
    step.on_chain_end({})
    graph.on_chain_end({})
    (agent,) = (span for span in measured.spans if span.name == "invoke_agent agent")
    chats = [span for span in measured.spans if span.name.startswith("chat")]
    assert [chat.parent.span_id for chat in chats] == [agent.context.span_id] * 2
    assert during == chats[0].context
    for context in (contextvars.copy_context(), elsewhere):
        assert not context.run(trace.get_current_span).get_span_context().is_valid


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
