"""A stream whose consumer stops after the finish reason was read to its end."""

import pytest

from tests.support.agents import CALLS as REQUESTS
from tests.support.providers.double import Answer
from tests.support.providers.integrations import INTEGRATIONS
from tests.support.providers.ways import QUESTION, run

# Where the package hands the finish reason over with a chunk, by the keys of response_metadata.
KEYS = {
    "ChatOpenAI": "finish_reason",
    "ChatOpenAI, Responses": "status",
    "ChatAnthropic": "stop_reason",
    "ChatGoogleGenerativeAI": "finish_reason",
    "ChatOllama": "done_reason",
    "ChatMistralAI": "finish_reason",
    "ChatGroq": "finish_reason",
    "ChatBedrockConverse": "stopReason",
    "ChatAnthropicBedrock": "stop_reason",
    "ChatDeepSeek": "finish_reason",
    "ChatXAI": "finish_reason",
    "ChatFireworks": "finish_reason",
    "ChatTogether": "finish_reason",
    "ChatOpenRouter": "finish_reason",
    "ChatHuggingFace": "finish_reason",
    "ChatPerplexity": "finish_reason",
    "ChatCohere": "finish_reason",
}
AFTERWARDS = {
    "ChatOpenAI",
    "ChatXAI",
    "ChatOpenRouter",
    "ChatFireworks",
    "ChatBedrockConverse",
    "ChatHuggingFace",
}
"""Their usage comes after the finish reason, and so never to those who stop there."""


async def _read_until(key, model):
    stream = model.astream(QUESTION)
    async for chunk in stream:
        if chunk.response_metadata.get(key):
            break
    await stream.aclose()


def _read_until_in_a_thread(key, model):
    stream = model.stream(QUESTION)
    for chunk in stream:
        if chunk.response_metadata.get(key):
            break
    stream.close()


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("name", KEYS)
def test_a_stream_left_after_its_finish_reason_is_ok(observe, local_url, name, way):
    integration = INTEGRATIONS[name]
    model = integration.make(*(local_url,) * integration.needs_address)
    key = KEYS[name]
    if way == "stream":
        outcome = observe(lambda made: _read_until_in_a_thread(key, made), model, Answer())
    else:
        outcome = observe(lambda made: run(_read_until(key, made)), model, Answer())
    assert outcome.error is None
    assert outcome.page.sum(REQUESTS, status="ok", error_type="") == 1
    assert outcome.page.sum(REQUESTS) == 1
    assert outcome.finishes == [(outcome.calls[0].finish,)]
    without = name in AFTERWARDS
    assert outcome.unmeasured("no_usage") == without
    assert outcome.tokens("completion") == (0 if without else 211)


@pytest.mark.parametrize("name", ["ChatOpenAI", "ChatAnthropic", "ChatOllama"])
def test_a_stream_left_before_is_aborted(observe, local_url, name):
    integration = INTEGRATIONS[name]
    model = integration.make(*(local_url,) * integration.needs_address)

    async def leave(made):
        stream = made.astream(QUESTION)
        async for chunk in stream:
            if chunk.text:
                break
        await stream.aclose()

    outcome = observe(lambda made: run(leave(made)), model, Answer())
    assert outcome.page.sum(REQUESTS, status="aborted") == 1
    assert outcome.page.sum(REQUESTS) == 1
