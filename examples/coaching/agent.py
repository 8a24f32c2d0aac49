"""The coach: a LangGraph agent that alternates between the model and its tools."""

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agent_tools import build_tools
from langchain_core.messages import AnyMessage, BaseMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from psycopg_pool import ConnectionPool

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

Mode: TypeAlias = Literal["streamlit", "plan_generator"]

_PROMPTS: dict[Mode, str] = {
    "streamlit": (
        "You are a friendly running coach in a chat. Answer briefly and practically."
        " Look up the weather or the athlete's recent activities when that helps."
    ),
    "plan_generator": (
        "You are a running coach who writes training plans. Answer with one line per week:"
        " its focus, its distance and its key session. Build up gradually."
    ),
}


class CoachState(MessagesState):
    """The conversation, and whether the coach is chatting or writing a plan."""

    mode: Mode


CoachGraph: TypeAlias = "CompiledStateGraph[CoachState, None, CoachState, CoachState]"


def build_graph(
    model: ChatOpenAI,
    pool: ConnectionPool,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> CoachGraph:
    """Build the agent; with a `checkpointer`, it remembers each thread's conversation."""
    tools = build_tools(pool)
    model_with_tools = model.bind_tools(tools)

    async def coach(state: CoachState, config: RunnableConfig) -> dict[str, list[AnyMessage]]:
        prompt = _PROMPTS[state["mode"]]
        if user_id := config.get("configurable", {}).get("user_id"):
            prompt += f" The athlete is {user_id}."
        answer = await model_with_tools.ainvoke([SystemMessage(prompt), *state["messages"]], config)
        return {"messages": [answer]}

    graph = StateGraph(CoachState)
    graph.add_node("coach", coach)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "coach")
    graph.add_conditional_edges("coach", tools_condition)
    graph.add_edge("tools", "coach")
    return graph.compile(checkpointer=checkpointer)


def text_of(message: BaseMessage) -> str:
    """Return a message's text, which is empty if the message is a tool call."""
    return message.content if isinstance(message.content, str) else ""
