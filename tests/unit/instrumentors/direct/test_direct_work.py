"""How much is done for a chunk of a provider's package: counted, not timed."""

import asyncio
import json
from contextvars import Context
from functools import partial

import openai
import pytest
from opentelemetry.sdk.metrics._internal.measurement_consumer import SynchronousMeasurementConsumer

from otel_coach.testing import measuring
from tests.support.counting import calls_of_ours
from tests.support.direct_calls import chat, http_library


def events(count):
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n" * count + "data: [DONE]\n\n"


def transport(count):
    module = http_library()

    def handle(_request):
        headers = {"content-type": "text/event-stream"}
        return module.Response(200, headers=headers, content=events(count))

    return module.MockTransport(handle)


def read(count):
    module = http_library()
    http_client = module.Client(transport=transport(count))
    with openai.OpenAI(api_key="k", http_client=http_client) as client:
        for _ in client.chat.completions.create(**chat("hi", "anna"), stream=True):
            pass


def read_asynchronously(count):
    async def work():
        module = http_library()
        http_client = module.AsyncClient(transport=transport(count))
        async with openai.AsyncOpenAI(api_key="k", http_client=http_client) as client:
            async for _ in await client.chat.completions.create(**chat("hi", "anna"), stream=True):
                pass

    asyncio.run(work())


def ours(measured, reads, count):
    measured.spans  # noqa: B018 - it settles
    with calls_of_ours() as counted:
        reads(count)
    return counted[0]


@pytest.mark.parametrize("reads", [read, read_asynchronously])
def test_a_chunk_costs_two_functions(reads):
    # The iterator's step and `chunk_came`.
    with measuring() as measured:
        reads(3)
        more = ours(measured, reads, 1100) - ours(measured, reads, 100)
    assert round(more / 1000) == 2


def test_a_chunk_is_nothing_to_the_sdk(monkeypatch):
    consumed = []
    consume = SynchronousMeasurementConsumer.consume_measurement

    def consuming(*args):
        consumed.append(args)
        return consume(*args)

    monkeypatch.setattr(SynchronousMeasurementConsumer, "consume_measurement", consuming)
    with measuring() as measured:
        found = []
        for count in (10, 1000):
            read(3)
            measured.spans  # noqa: B018 - it settles
            consumed.clear()
            read(count)
            measured.spans  # noqa: B018 - it settles
            found.append(len(consumed))
    assert found[0] == found[1]


def test_a_call_costs_few_functions():
    """Of ours, from the request to the answer: what is recorded follows later."""
    module = http_library()

    def handle(_request):
        return module.Response(200, json={"id": "1", "choices": [], "model": "m"})

    http_client = module.Client(transport=module.MockTransport(handle))
    with (
        measuring() as measured,
        openai.OpenAI(api_key="k", http_client=http_client) as client,
    ):
        for _ in range(2):
            measured.spans  # noqa: B018 - it settles
            ask = partial(client.chat.completions.create, **chat("hi", "anna"))
            outside = Context()  # what other tests left in this one's context takes functions too
            with calls_of_ours() as counted:
                outside.run(ask)
    assert counted[0] <= 88
