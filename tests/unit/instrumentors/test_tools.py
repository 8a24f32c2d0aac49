"""Tools that handle their errors themselves, and tools that wait for a human."""

import pytest
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import END, START, StateGraph

from tests.support.conservation import started

try:
    from langgraph.types import Command, interrupt
except ImportError:  # LangGraph before it could resume a node in the middle
    Command = None

CALLS, LATENCY = "agent_tool_calls_total", "agent_tool_latency_seconds_count"


def asked(name, call_id="1"):
    return {"name": name, "args": {"city": "Rome"}, "id": call_id, "type": "tool_call"}


@tool
def weather(city: str) -> str:
    """Knows the weather."""
    if city == "Rome":
        message = "no such station"
        raise ToolException(message)
    return "sunny"


@pytest.mark.parametrize("answers", [True, False])
def test_a_tool_that_handles_its_error_itself_is_in_error(measured, answers):
    handling = weather.model_copy(update={"handle_tool_error": True})
    if answers:
        assert handling.invoke(asked("weather")).status == "error"
    else:  # without an id there is no message, and nothing that says so
        assert handling.invoke({"city": "Rome"}) == "no such station"
    page = measured.page()
    status, error_type = ("error", "tool_error") if answers else ("ok", "")
    labels = {"tool_name": "weather", "status": status, "error_type": error_type}
    assert page.samples(CALLS) == [(labels, 1)]
    (span,) = measured.spans
    assert span.status.is_ok is not answers
    assert span.attributes.get("error.type") == ("tool_error" if answers else None)


def test_a_tool_that_raises_is_in_error_under_its_own_class(measured):
    with pytest.raises(ToolException):
        weather.invoke(asked("weather"))
    assert measured.page().sum(CALLS, status="error", error_type="ToolException") == 1


@pytest.mark.skipif(Command is None, reason="this LangGraph cannot resume a tool")
def test_a_tool_that_waits_for_a_human_counts_when_it_is_resumed(measured):
    @tool
    def book(city: str) -> str:
        """Books, if a human agrees."""
        return f"{city}: {interrupt('may I?')}"

    def node(_state):
        return {"said": book.invoke({"city": "Rome"})}

    builder = StateGraph(dict)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    graph = builder.compile(checkpointer=MemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    graph.invoke({"asked": 1}, config)
    started["tools"] -= 1  # the run that paused
    page = measured.page()
    assert page.samples(CALLS) == page.samples(LATENCY) == []
    outcomes = [span.attributes.get("otel_coach.outcome") for span in measured.spans]
    assert outcomes == ["paused", None]
    assert all(span.status.is_ok or span.status.is_unset for span in measured.spans)
    assert graph.invoke(Command(resume="yes"), config) == {"said": "Rome: yes"}
    assert measured.page().sum(CALLS, status="ok") == measured.page().sum(CALLS) == 1
