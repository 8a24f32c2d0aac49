"""How calls by both packages end: refused, cut, cancelled, closed, dropped."""

import asyncio
import gc
import socket

import openai
import pytest

from otel_coach.testing import measuring
from tests.support.direct_calls import (
    HELPERS,
    LINES,
    RAW_STREAMS,
    STREAMS,
    WHOLE,
    has,
    http_library,
    package_of,
)
from tests.support.waiting import eventually
from tests.unit.instrumentors.direct.conftest import CALLS, agrees

SLOW = "[pace:0.05] [tokens:40]"
NO_USAGE = ("agent_llm_unmeasured_total", {"error_type": "no_usage"})
EACH_API = ("chat", "responses", "messages")


def skip_without(client, way):
    if not has(client, way):
        pytest.skip("this version of the package has no such method")


def only_status(measured):
    ((labels, count),) = measured.page().samples(CALLS)
    assert count == 1
    return labels["status"], labels["error_type"]


def unmeasured(measured):
    name, labels = NO_USAGE
    return measured.page().sum(name, **labels)


@pytest.mark.parametrize("reason", [None, "stop"])
def test_an_answer_without_a_finish_reason_has_none(reason):
    """Some servers that speak OpenAI's protocol leave it out."""
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": ""}}
    module = http_library()
    answer = {"id": "1", "choices": [choice], "model": "m"}
    transport = module.MockTransport(lambda _request: module.Response(200, json=answer))
    with (
        measuring() as measured,
        openai.OpenAI(api_key="k", http_client=module.Client(transport=transport)) as client,
    ):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        (span,) = measured.spans
    expected = ("stop",) if reason else None
    assert span.attributes.get("gen_ai.response.finish_reasons") == expected


# Errors


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *(("chat", status) for status in (400, 401, 429, 500)),
        *((name, 429) for name in ("responses", "messages", "messages_helper", "chat_raw")),
    ],
)
def test_a_refused_call_has_the_class_of_its_exception(name, status, measured, clients, provider):
    client = clients[package_of(name)]
    way = {**WHOLE, **STREAMS, **HELPERS}[name]
    skip_without(client, way)
    with pytest.raises(Exception, match=r".") as raised:
        answer = way(client, f"[fail:{status}]", "anna")
        answer.__enter__()
    assert only_status(measured) == ("error", raised.type.__name__)
    assert unmeasured(measured) == 0  # it was rejected, and not billed
    (span,) = measured.spans
    assert span.attributes["error.type"] == raised.type.__name__
    assert not span.events
    assert not span.status.description


@pytest.mark.parametrize("name", EACH_API)
def test_the_attempts_of_a_package_are_one_call(name, provider, clients):
    client = clients[package_of(name)].with_options(max_retries=2)
    skip_without(client, WHOLE[name])
    with measuring() as measured:
        with pytest.raises(Exception, match=r"."):
            WHOLE[name](client, "[fail:500]", "anna")
        assert len(provider.ledger) == 3
        agrees(measured, provider, retries=2)
        assert only_status(measured) == ("error", "InternalServerError")


@pytest.mark.parametrize("name", [*EACH_API, "chat_raw", "messages_raw", *STREAMS, *HELPERS])
@pytest.mark.parametrize("how", ["cut", "garbage"])
def test_an_answer_that_breaks_off_is_an_error(name, how, measured, clients):
    client = clients[package_of(name)]
    way = {**WHOLE, **STREAMS, **HELPERS}[name]
    skip_without(client, way)
    with pytest.raises(Exception, match=r".") as raised:
        answer = way(client, f"[{how}] [tokens:8]", "anna")
        if name in HELPERS:
            answer = answer.__enter__()
        if name in WHOLE and "raw" in name:
            answer.parse()
        else:
            list(answer)
    if "raw" in name and how == "garbage":  # the application parsed it later
        assert only_status(measured) == ("ok", "")
        return
    assert only_status(measured) == ("error", raised.type.__name__)
    assert unmeasured(measured) == (name not in WHOLE)


def test_a_server_that_is_down_is_an_error():
    with socket.socket() as bound, measuring() as measured:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        client = openai.OpenAI(api_key="k", base_url=url, max_retries=0)
        with client, pytest.raises(openai.APIConnectionError):
            WHOLE["chat"](client, "hi", "anna")
        assert only_status(measured) == ("error", "APIConnectionError")
        assert unmeasured(measured) == 0


def test_a_client_that_times_out_is_an_error(measured, clients):
    with pytest.raises(openai.APITimeoutError):
        WHOLE["chat"](clients["openai"].with_options(timeout=0.2), "[delay:3]", "anna")
    assert only_status(measured) == ("error", "APITimeoutError")


def test_an_answer_that_does_not_fit_is_billed_although_parse_raises(measured, clients, provider):
    from pydantic import BaseModel

    class Plan(BaseModel):
        weeks: int

    parse = WHOLE["chat_parse"]
    skip_without(clients["openai"], parse)
    with pytest.raises(ValueError, match="Plan") as raised:
        clients["openai"].chat.completions.parse(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "[tokens:5]"}],
            response_format=Plan,
        )
    assert only_status(measured) == ("error", raised.type.__name__)
    assert measured.page().sum("agent_llm_tokens_total", mode="completion") == 5
    assert unmeasured(measured) == 0


# Cut off by the consumer


def close(stream):
    # The oldest streams have no method for it.
    getattr(stream, "close", stream.response.close)()


def close_early(stream):
    next(iter(stream))
    close(stream)


def drop_early(stream):
    next(iter(stream))


def close_unread(stream):
    close(stream)


def drop_unread(_stream):
    pass


@pytest.mark.parametrize("leave", [close_early, drop_early, close_unread, drop_unread])
@pytest.mark.parametrize("name", [*STREAMS, *RAW_STREAMS])
def test_a_stream_that_is_left_is_aborted(name, leave, measured, clients, caplog):
    client = clients[package_of(name)]
    way = {**STREAMS, **RAW_STREAMS}[name]
    skip_without(client, way)
    stream = way(client, SLOW, "anna")
    leave(stream.parse() if name in RAW_STREAMS else stream)
    del stream
    gc.collect()
    assert only_status(measured) == ("aborted", "")
    assert unmeasured(measured) == 1
    assert "no_usage" not in caplog.text  # to be expected, and nothing that could be cured
    (span,) = measured.spans
    assert span.attributes["otel_coach.outcome"] == "aborted"
    assert span.status.status_code.name == "UNSET"


@pytest.mark.parametrize("name", [*HELPERS, *LINES])
def test_a_context_that_is_left_is_aborted(name, measured, clients):
    client = clients[package_of(name)]
    way = {**HELPERS, **LINES}[name]
    skip_without(client, way)
    with way(client, SLOW, "anna") as opened:
        next(iter(opened.iter_lines() if name in LINES else opened))
    gc.collect()
    assert only_status(measured) == ("aborted", "")


async def break_off(stream):
    async for _ in stream:
        break


async def aclose(stream):
    await anext(stream.__aiter__())
    await getattr(stream, "close", stream.response.aclose)()


async def cancel(stream):
    async def read():
        async for _ in stream:
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("leave", [break_off, aclose, cancel])
@pytest.mark.parametrize("name", STREAMS)
def test_an_asynchronous_stream_that_is_left_is_aborted(name, leave, measured, run):
    async def work(clients):
        client = clients[package_of(name)]
        skip_without(client, STREAMS[name])
        await leave(await STREAMS[name](client, SLOW, "anna"))

    run(work)
    gc.collect()
    eventually(lambda: measured.page().sum(CALLS) == 1)
    assert only_status(measured) == ("aborted", "")
    assert unmeasured(measured) == 1


@pytest.mark.parametrize("name", [*EACH_API, "chat_stream", "messages_stream"])
def test_a_cancelled_call_is_aborted(name, measured, run):
    async def work(clients):
        client = clients[package_of(name)]
        way = {**WHOLE, **STREAMS}[name]
        skip_without(client, way)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await way(client, "[delay:5]", "anna")

    run(work)
    assert only_status(measured) == ("aborted", "")
    assert measured.page().sum("agent_llm_latency_seconds_sum") < 2


FINISHED = {
    "chat_stream": lambda chunk: chunk.choices and chunk.choices[0].finish_reason,
    "responses_stream": lambda event: event.type == "response.completed",
    "messages_stream": lambda event: event.type == "message_delta",
}


@pytest.mark.parametrize("name", FINISHED)
def test_a_stream_that_is_left_after_its_finish_reason_is_ok(name, measured, clients, caplog):
    client = clients[package_of(name)]
    skip_without(client, STREAMS[name])
    for chunk in STREAMS[name](client, "hi", "anna"):
        if FINISHED[name](chunk):
            break
    gc.collect()
    assert only_status(measured) == ("ok", "")
    # OpenAI's chat completions send the usage afterwards; the others with the finish reason.
    assert unmeasured(measured) == (name == "chat_stream")
    assert "no_usage" not in caplog.text


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_without_usage_says_so(name, measured, clients, caplog):
    client = clients[package_of(name)]
    skip_without(client, STREAMS[name])
    list(STREAMS[name](client, "[no-usage] [tokens:3]", "anna"))
    assert only_status(measured) == ("ok", "")
    assert unmeasured(measured) == 1
    assert measured.page().sum("agent_llm_tokens_total") == 0
    assert "no_usage" in caplog.text


@pytest.mark.parametrize("name", STREAMS)
def test_an_empty_stream_has_no_first_token(name, measured, clients):
    client = clients[package_of(name)]
    skip_without(client, STREAMS[name])
    list(STREAMS[name](client, "[empty]", "anna"))
    assert only_status(measured) == ("ok", "")
    assert measured.page().sum("agent_llm_time_to_first_token_seconds_count") == 0


@pytest.mark.parametrize("name", FINISHED)
def test_a_tool_call_is_a_first_token(name, measured, clients):
    client = clients[package_of(name)]
    skip_without(client, STREAMS[name])
    list(STREAMS[name](client, "[tool:weather]", "anna"))
    assert only_status(measured) == ("ok", "")
    assert measured.page().sum("agent_llm_time_to_first_token_seconds_count") == 1


def test_calls_that_are_open_at_the_end_are_aborted(measured, clients):
    stream = STREAMS["chat_stream"](clients["openai"], SLOW, "anna")
    next(stream)
    measured.installation._end_runs(lambda run: run.application is None)
    assert only_status(measured) == ("aborted", "")
    close(stream)
    assert only_status(measured) == ("aborted", "")
