"""Tools that handle their errors themselves, and tools that wait for a human."""

from dataclasses import dataclass

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import END, START, StateGraph

from otel_coach.instrumentors.genai.tool_answers import says_error
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


def said(status, call_id="1"):
    return ToolMessage("no seats", tool_call_id=call_id, status=status)


@dataclass
class State:
    messages: list


EARLIER = [HumanMessage("hi"), said("error", "0"), said("success", "0")]
UPDATES = {
    "messages": lambda one: {"messages": [one]},
    "one message": lambda one: {"messages": one},
    "all messages": lambda one: {"turns": 3, "messages": [*EARLIER, one]},
    "another key": lambda one: {"said": [one]},
    "pairs": lambda one: [("turns", 3), ("messages", [one])],
    "an object": lambda one: State([one]),
    "a state that is a list": lambda one: [one],
}
ANSWERS = {
    "a message": said,
    **{
        f"a command with {name}": (lambda status, make=make: Command(update=make(said(status))))
        for name, make in UPDATES.items()
    },
    "a list of messages": lambda status: [said(status)],
    "a list of commands": lambda status: [
        Command(goto="next"),
        Command(update={"messages": [said(status)]}),
    ],
}


@pytest.mark.skipif(Command is None, reason="this LangGraph has no Command")
@pytest.mark.parametrize("knows_id", [True, False])
@pytest.mark.parametrize("status", ["error", "success"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_message_that_says_error_may_be_in_a_command_or_a_list(
    measured, answer, status, knows_id
):
    @tool
    def book(city: str):
        """Books."""
        return ANSWERS[answer](status)

    book.invoke(asked("book") if knows_id else {"city": "Rome"})
    error_type = "tool_error" if status == "error" else ""
    labels = {"tool_name": "book", "status": {"success": "ok"}.get(status, status)}
    assert measured.page().samples(CALLS) == [(labels | {"error_type": error_type}, 1)]


@pytest.mark.skipif(Command is None, reason="this LangGraph has no Command")
@pytest.mark.parametrize(
    "answer",
    [
        Command and Command(update={"messages": [said("error", "0"), said("success")]}),
        Command and Command(goto="next"),
        Command and Command(update=7),
        [{"status": "error", "type": "tool"}, said("error")],
        {"status": "error"},
        [],
    ],
)
def test_the_errors_of_other_calls_are_not_this_ones(measured, answer):
    @tool
    def book(city: str):
        """Books."""
        return answer

    book.invoke(asked("book"))
    assert measured.page().sum(CALLS, status="ok") == measured.page().sum(CALLS) == 1


@pytest.mark.skipif(Command is None, reason="this LangGraph has no Command")
def test_the_id_of_the_call_tells_its_message():
    answer = Command(update={"messages": [said("success", "1"), said("error", "2")]})
    assert (says_error(answer, "1"), says_error(answer, "2")) == (False, True)
    assert says_error(answer)  # the last one, where the id is not known


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
