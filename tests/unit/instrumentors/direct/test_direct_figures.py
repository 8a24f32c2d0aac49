"""Every way of calling both packages: the figures are the provider's ledger."""

import pytest

from tests.support.direct_calls import (
    HELPERS,
    LINES,
    RAW_STREAMS,
    RESPONSES,
    STREAMS,
    WHOLE,
    has,
    package_of,
)
from tests.unit.instrumentors.direct.conftest import CALLS

TEXT = "[tokens:7] [cached:2] [reasoning:3] How was my week in Berlin?"
PRICES = {"gpt-4o-mini": (0.15, 0.075, 0.6), "claude-3-5-haiku-latest": (0.8, 0.08, 4)}
"""US dollars per million tokens, as the providers publish them: input, cached input, output."""
ALL = {**WHOLE, **STREAMS, **RAW_STREAMS, **RESPONSES, **LINES, **HELPERS}


def read(name, answer):
    """Reads an answer to its end, each as its documentation says."""
    if name in STREAMS:
        return list(answer)
    if name in RAW_STREAMS:
        return list(answer.parse())
    if name in {**RESPONSES, **LINES, **HELPERS}:
        with answer as opened:
            if name in RESPONSES:
                return opened.parse()
            return list(opened.iter_lines() if name in LINES else opened)
    return answer.parse() if "raw" in name else answer


async def aread(name, answer):
    if name in HELPERS or name in RESPONSES or name in LINES:
        async with answer as opened:
            if name in RESPONSES:
                return await opened.parse()
            parts = opened.iter_lines() if name in LINES else opened
            return [part async for part in parts]
    answer = await answer
    if name in RAW_STREAMS:
        answer = answer.parse()
        answer = await answer if hasattr(answer, "__await__") else answer
    if name in STREAMS or name in RAW_STREAMS:
        return [part async for part in answer]
    return answer


def check(measured, provider, name):
    (entry,) = provider.ledger
    assert entry.outcome == "complete"
    page = measured.page()
    streams = name not in WHOLE and name not in RESPONSES
    mode = "stream" if streams else "invoke"
    assert page.samples(CALLS) == [
        ({"model": entry.model, "mode": mode, "status": "ok", "error_type": ""}, 1)
    ]
    assert page.sum("agent_llm_tokens_total", mode="prompt") == entry.prompt_tokens
    assert page.sum("agent_llm_tokens_total", mode="completion") == entry.completion_tokens
    assert page.sum("agent_llm_cached_tokens_total") == entry.cached_tokens == 2
    if package_of(name) == "openai":
        assert page.sum("agent_llm_reasoning_tokens_total") == entry.reasoning_tokens == 3
    assert page.sum("agent_llm_unmeasured_total") == 0
    fresh, cached, output = PRICES[entry.model]
    prompt = (entry.prompt_tokens - 2) * fresh + 2 * cached
    cost = (prompt + entry.completion_tokens * output) / 1e6
    assert page.sum("agent_llm_cost_usd_total") == pytest.approx(cost)
    assert page.sum("agent_llm_time_to_first_token_seconds_count") == streams
    (span,) = measured.spans
    assert span.name == f"chat {entry.model}"
    assert span.kind.name == "CLIENT"
    assert span.attributes["gen_ai.provider.name"] == package_of(name)
    assert span.attributes["gen_ai.response.model"] == entry.model
    assert span.attributes["gen_ai.usage.output_tokens"] == entry.completion_tokens
    assert span.attributes["gen_ai.response.finish_reasons"][0] in {"stop", "completed", "end_turn"}


@pytest.mark.parametrize("name", ALL)
def test_a_call_is_counted_once_with_what_it_cost(name, measured, clients, provider):
    client = clients[package_of(name)]
    if not has(client, ALL[name]):
        pytest.skip("this version of the package has no such method")
    assert read(name, ALL[name](client, TEXT, "anna"))
    check(measured, provider, name)


@pytest.mark.parametrize("name", ALL)
def test_an_asynchronous_call_is_counted_once_too(name, measured, run, provider):
    async def work(clients):
        client = clients[package_of(name)]
        if not has(client, ALL[name]):
            pytest.skip("this version of the package has no such method")
        return await aread(name, ALL[name](client, TEXT, "anna"))

    assert run(work)
    check(measured, provider, name)


@pytest.mark.parametrize("way", ["iter_bytes", "iter_lines", "iter_text", "iter_raw"])
@pytest.mark.parametrize("name", [*STREAMS, *LINES])
def test_a_stream_whose_response_the_application_reads_itself_is_counted_too(
    name, way, measured, clients, provider
):
    if not has(clients[package_of(name)], ALL[name]):
        pytest.skip("this version of the package has no such method")
    answer = ALL[name](clients[package_of(name)], TEXT, "anna")
    if name in STREAMS:
        assert list(getattr(answer.response, way)())
    else:
        with answer as opened:
            assert list(getattr(opened.http_response, way)())
    check(measured, provider, name)


@pytest.mark.parametrize("way", ["aiter_bytes", "aiter_lines", "aiter_raw"])
def test_an_asynchronous_stream_whose_response_is_read_is_counted_too(way, measured, run, provider):
    async def work(clients):
        answer = await STREAMS["chat_stream"](clients["openai"], TEXT, "anna")
        return [part async for part in getattr(answer.response, way)()]

    assert run(work)
    check(measured, provider, "chat_stream")
