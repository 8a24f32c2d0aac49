"""LangChain and LangGraph: what is called, and in which ways."""

import asyncio
from typing import Annotated, TypedDict

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import LLM
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from opentelemetry import trace

CALLS = "agent_llm_requests_total"
TOKENS = "agent_llm_tokens_total"


def collect(stream):
    return list(stream)


async def acollect(stream):
    return [chunk async for chunk in stream]


def chain(model):
    return ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()


async def cancel_ainvoke(model):
    task = asyncio.create_task(model.ainvoke("[delay:5]"))
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def close_stream(model):
    stream = model.stream("[pace:0.05]")
    next(stream)
    stream.close()


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
