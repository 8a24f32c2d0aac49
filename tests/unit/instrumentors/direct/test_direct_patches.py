"""What the patches of the clients do beside other threads, and beneath another's patch."""

import threading

import anthropic
import openai
import pytest
import wrapt

from otel_coach.core.request_context import current_request
from otel_coach.core.stop_rule import StopRule
from otel_coach.core.stopping import Stop, StoppableRequest, StoppedError
from otel_coach.instrumentors.genai import open_calls
from otel_coach.instrumentors.openai import OpenAIInstrumentor
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.direct_calls import WHOLE
from tests.unit.instrumentors.direct.conftest import CALLS


@pytest.fixture
def started(monkeypatch):
    """The calls that are measured from now on."""
    calls = []
    start = open_calls.OpenCalls.start

    def noted(self, *args):
        calls.append(start(self, *args))
        return calls[-1]

    monkeypatch.setattr(open_calls.OpenCalls, "start", noted)
    return calls


def test_threads_that_make_the_first_calls_at_once_share_the_open_calls(monkeypatch):
    make = open_calls.OpenCalls
    threads, seen = [], []

    def made_in_two_threads(*args, **kwargs):
        if not threads:
            threads.append(threading.Thread(target=lambda: seen.append(calls.open_calls)))
            threads[0].start()
            threads[0].join(1)
        return make(*args, **kwargs)

    with measuring():
        calls = OpenAIInstrumentor().calls
        monkeypatch.setattr(open_calls, "OpenCalls", made_in_two_threads)
        seen.append(calls.open_calls)
        threads[0].join()
        seen.append(calls.open_calls)
    assert len({*map(id, seen)}) == 1
    assert len(seen) == 3


def test_a_patch_that_another_instrumentation_has_wrapped_measures_only_while_active(
    clients, started
):
    owner = [cls for cls in openai.OpenAI.__mro__ if "request" in vars(cls)][-1]
    before = vars(owner)["request"]

    def passing_on(wrapped, _instance, args, kwargs):
        return wrapped(*args, **kwargs)

    def measured_calls():
        with measuring() as measured:
            WHOLE["chat"](clients["openai"], "hi", "anna")
            return measured.page().sum(CALLS), measured.page().sum("otel_coach_errors_total")

    try:
        with measuring():
            wrapt.wrap_function_wrapper(owner, "request", passing_on)
        WHOLE["chat"](clients["openai"], "hi", "anna")
        assert not started
        assert measured_calls() == (1, 0)
        assert len(started) == 1
    finally:
        owner.request = before


ASKED = {
    "model": "claude",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "x"}],
}
KEYS = {"base_url": "http://127.0.0.1:1", "max_retries": 0}


CLIENTS = {
    "Anthropic": {"api_key": "any"},
    "AnthropicBedrock": {"aws_access_key": "a", "aws_secret_key": "b", "aws_region": "c"},
    "AnthropicVertex": {"access_token": "a", "region": "b", "project_id": "c"},
}


# The oldest versions have the first one only, and its messages elsewhere.
@pytest.mark.parametrize("client", [name for name in CLIENTS if hasattr(anthropic, name)])
def test_calls_in_stopped_work_are_refused_of_every_client(client):
    request = StoppableRequest("the application")
    request.stop = stop = Stop(StopRule(), lambda: True, lambda: None, threading.get_ident())
    with measuring(Settings(stop_abandoned=True)):
        asking = getattr(anthropic, client)(**KEYS, **CLIENTS[client])
        messages = asking.messages if hasattr(asking, "messages") else asking.beta.messages
        stop.is_on = True
        token = current_request.set(request)
        try:
            with pytest.raises(StoppedError):
                messages.create(**ASKED)
        finally:
            current_request.reset(token)
