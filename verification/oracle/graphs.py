"""The graphs of the service under test, and their tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

if TYPE_CHECKING:
    from langchain_core.retrievers import BaseRetriever


@tool
def weather(city: str = "") -> str:
    """The weather."""
    return f"sun in {city}"


@tool
def broken(city: str = "") -> str:
    """Always fails."""
    raise LookupError(city)


def graph(model: Any, *, asynchronous: bool, tools: bool = False) -> Any:
    bound = model.bind_tools([weather, broken]) if tools else model

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [bound.invoke(state["messages"])]}

    async def anode(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", anode if asynchronous else node)
    builder.add_edge(START, "model")
    if tools:
        builder.add_node("tools", ToolNode([weather, broken], handle_tool_errors=False))
        builder.add_conditional_edges("model", tools_condition)
        builder.add_edge("tools", "model")
    return builder.compile()


def nested(model: Any) -> Any:
    """Returns a graph whose node is a graph."""
    builder = StateGraph(MessagesState)
    builder.add_node("inner", graph(model, asynchronous=True))
    builder.add_edge(START, "inner")
    return builder.compile()


def calling_agent(model: Any) -> Any:
    """Returns a graph whose node calls another graph as a function."""
    inner = graph(model, asynchronous=True)

    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": (await inner.ainvoke(state))["messages"][-1:]}

    builder = StateGraph(MessagesState)
    builder.add_node("outer", node)
    builder.add_edge(START, "outer")
    return builder.compile()


def with_retriever(model: Any, documents: BaseRetriever) -> Any:
    """Returns a graph that retrieves before it calls the graph of the model."""

    async def retrieve(_: MessagesState) -> dict[str, Any]:
        await documents.ainvoke("runs")
        return {"messages": []}  # older versions of LangGraph accept no empty update

    builder = StateGraph(MessagesState)
    builder.add_node("retrieve", retrieve)
    builder.add_node("model", graph(model, asynchronous=True))
    builder.add_edge(START, "retrieve")
    builder.add_edge("retrieve", "model")
    return builder.compile()
