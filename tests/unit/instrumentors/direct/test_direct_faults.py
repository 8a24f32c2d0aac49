"""A fault in what measures the providers' packages changes nothing for the application."""

import gc

import openai
import pytest

from otel_coach.core import guard
from otel_coach.instrumentors.genai.client_calls import ClientCalls
from otel_coach.instrumentors.genai.direct_call import DirectCall
from otel_coach.instrumentors.genai.open_calls import OpenCalls
from otel_coach.instrumentors.openai.calls import ChatCall
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.direct_calls import LINES, RAW_STREAMS, STREAMS, WHOLE
from tests.support.hooks import HOOKS

FAULTS = "otel_coach_errors_total"
REACHED = [hook for hook in HOOKS if hook[0] in {ClientCalls, OpenCalls} and hook[1] != "_prompt"]


def failing(*_args, **_kwargs):
    raise LookupError


def said(client):
    """What the application gets, each way of reading and of leaving."""
    whole = WHOLE["chat"](client, "[say:hello]", "anna").choices[0].message.content
    stream = STREAMS["chat_stream"](client, "[say:hello]", "anna")
    read = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    raw = RAW_STREAMS["chat_raw_stream"](client, "[say:hello]", "anna").parse()
    parsed = [chunk.choices[0].delta.content for chunk in raw if chunk.choices]
    with LINES["chat_lines"](client, "[say:hello]", "anna") as response:
        lines = sum(1 for _ in response.iter_lines())
    left = STREAMS["chat_stream"](client, "hi", "anna")
    next(left)
    left.close()
    del stream, left, raw
    gc.collect()
    with pytest.raises(openai.RateLimitError):
        WHOLE["chat"](client, "[fail:429]", "anna")
    return whole, read, parsed, lines


@pytest.fixture
def bare(clients):
    return said(clients["openai"])


def test_the_hooks_are_found():
    assert {"begin", "enter", "exit", "goes_on_after", "end", "leave"} <= {
        name for _, name in REACHED
    }


@pytest.mark.parametrize(("cls", "name"), REACHED)
def test_a_fault_at_any_hook_changes_no_answer(cls, name, monkeypatch, bare, clients):
    monkeypatch.setattr(cls, name, guard.guarded(failing))
    with measuring(Settings(captures_on_spans=name == "_content")) as measured:
        assert said(clients["openai"]) == bare
        faults = measured.page().sum(FAULTS, error_type="LookupError")
        assert faults > 0 or name == "end_runs"  # of calls that nobody ends


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (ChatCall, "chunk_came"),
        (ChatCall, "answer_came"),
        (DirectCall, "event_came"),
        (DirectCall, "billing"),
        (DirectCall, "start_span"),
    ],
)
def test_a_fault_below_the_hooks_changes_no_answer(cls, name, monkeypatch, bare, clients):
    monkeypatch.setattr(cls, name, failing)
    with measuring() as measured:
        assert said(clients["openai"]) == bare
        assert measured.page().sum(FAULTS, error_type="LookupError") > 0
