"""The agent whose cost is measured: two calls of a model, and a tool between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AnyMessage
    from langgraph.graph.state import CompiledStateGraph


@tool
def pace(distance: int) -> str:
    """Return the pace for a distance."""
    return f"{distance}"


def an_agent(model: BaseChatModel) -> CompiledStateGraph:
    """Returns an agent over `model`, whose answers it replaces by those that the graph needs."""

    def answer(state: MessagesState) -> MessagesState:
        model.invoke(state["messages"])
        asked = len(state["messages"]) > 1
        calls = [] if asked else [{"name": "pace", "args": {"distance": 10}, "id": "1"}]
        said: list[AnyMessage] = [AIMessage("", tool_calls=calls)]
        return {"messages": said}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_node("tools", ToolNode([pace]))
    graph.add_edge(START, "answer")
    graph.add_conditional_edges("answer", tools_condition)
    graph.add_edge("tools", "answer")
    return graph.compile()
