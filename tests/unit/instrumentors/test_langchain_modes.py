"""The mode: stated by labels, metadata or the configurable."""

import enum

import pytest
from langchain_core.messages import HumanMessage

import otel_coach
from tests.support.agents import CALLS, agent, question

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


@pytest.mark.parametrize("mode", ["", "two words", "x" * 41, "naïve", 7, None])
def test_what_could_not_be_a_label_counts_as_other(measured, model, mode):
    with otel_coach.labels(mode=mode):
        model.invoke("hi")
    assert mode_of(measured) == "other"
