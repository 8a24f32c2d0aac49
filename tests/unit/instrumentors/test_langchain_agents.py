"""Agents and tools: spans that hang together."""

import asyncio
import contextvars

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langgraph.graph import START, StateGraph
from opentelemetry import trace

from tests.support.agents import (
    CALLS,
    State,
    acollect,
    agent,
    collect,
    question,
    seen_in_tool,
)


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


# Agents and tools

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


def test_a_run_name_that_is_a_sentence_is_no_span_name(measured, model):
    config = {"run_name": "coach for anna@example.org"}
    agent(model, asynchronous=False).invoke(question("hi"), config)
    assert not any("anna" in str((span.name, dict(span.attributes))) for span in measured.spans)
    assert any(span.name == "invoke_agent agent" for span in measured.spans)


# Broken input


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
    assert during == agent.context  # this code is around the call, not the model
    for context in (contextvars.copy_context(), elsewhere):
        assert not context.run(trace.get_current_span).get_span_context().is_valid
