"""Bills of streams, as integrations hand them over: each against the sum by hand."""

import asyncio
import itertools
import json

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk

from otel_coach.instrumentors.genai import model_call as model_call_module
from otel_coach.instrumentors.langchain import call as call_module
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.scripted_model import CALLS, COST, Scripted, counted, unmeasured
from tests.support.versions import HAS_EVENTS_V3

MTOK = 1_000_000

# Streams

OPENING = [
    AIMessageChunk(""),
    AIMessageChunk([{"type": "text", "text": "", "index": 0}]),
    AIMessageChunk([{"type": "reasoning", "id": "rs_1", "summary": [], "index": 0}]),
    AIMessageChunk("", additional_kwargs={"reasoning": {"id": "rs_1", "summary": []}}),
    AIMessageChunk([{"type": "reasoning_content", "reasoning_content": {"text": ""}, "index": 0}]),
    AIMessageChunk([{"type": "thinking", "thinking": "", "signature": "", "index": 0}]),
    AIMessageChunk([]),
]
SAYING = [
    AIMessageChunk("x"),
    AIMessageChunk([{"type": "text", "text": "x", "index": 0}]),
    AIMessageChunk(
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}], "index": 0}]
    ),
    AIMessageChunk([{"type": "reasoning_content", "reasoning_content": {"text": "x"}, "index": 0}]),
    AIMessageChunk([{"type": "thinking", "thinking": "x", "index": 0}]),
    AIMessageChunk("", additional_kwargs={"reasoning_content": "x"}),
    AIMessageChunk("", tool_call_chunks=[{"name": "t", "args": "", "id": "1", "index": 0}]),
    AIMessageChunk([{"type": "tool_use", "id": "1", "name": "t", "input": {}, "index": 0}]),
]


@pytest.mark.parametrize("chunk", OPENING)
def test_an_item_without_content_is_no_token(measured, chunk):
    list(Scripted(chunks=[chunk]).stream("hi"))
    page = measured.page()
    assert page.sum(CALLS, mode="stream") == 1
    assert page.sum("agent_llm_time_to_first_token_seconds_count") == 0


@pytest.mark.parametrize("chunk", SAYING)
def test_text_reasoning_and_a_tool_call_are_tokens(measured, chunk):
    list(Scripted(chunks=[*OPENING[:1], chunk]).stream("hi"))
    assert measured.page().sum("agent_llm_time_to_first_token_seconds_count") == 1


@pytest.mark.skipif(not HAS_EVENTS_V3, reason="an older langchain-core has no such events")
def test_a_stream_of_events_has_a_first_token_too(measured):
    async def read():
        # This model does not report its tokens itself.
        model = FakeListChatModel(responses=["two words"])
        stream = await model.astream_events("hi", version="v3")
        return [event async for event in stream]

    assert asyncio.run(read())
    assert measured.page().sum("agent_llm_time_to_first_token_seconds_count") == 1


def test_of_totals_that_are_repeated_in_each_chunk_the_last_is_the_bill(measured):
    chunks = [AIMessageChunk("x", usage_metadata=counted(713, n)) for n in range(1, 11)]
    list(Scripted(chunks=chunks).stream("hi"))
    page = measured.page()
    assert page.sum("agent_llm_tokens_total", mode="prompt") == 713
    assert page.sum("agent_llm_tokens_total", mode="completion") == 10
    assert page.sum(COST) == pytest.approx((713 * 1.25 + 10 * 10) / MTOK)


def test_the_usage_of_a_broken_stream_is_the_least_and_that_is_said(measured):
    chunks = [AIMessageChunk("x", usage_metadata=counted(700, 1)), AIMessageChunk("y")]
    with pytest.raises(ConnectionError):
        list(Scripted(chunks=chunks, breaks=True).stream("hi"))
    page = measured.page()
    assert page.sum("agent_llm_tokens_total", mode="prompt") == 700
    assert page.sum(CALLS, status="error") == 1
    assert unmeasured(page) == {"no_usage": 1}


def test_usage_of_nothing_at_all_is_made_up(measured):
    Scripted(answer=AIMessage("hi", usage_metadata=counted(0, 0))).invoke("hi")
    page = measured.page()
    assert unmeasured(page) == {"no_usage": 1}
    assert page.sum("agent_llm_tokens_total") == 0


LAST = AIMessageChunk("", response_metadata={"finish_reason": "stop", "model_name": "gpt-5"})


@pytest.mark.parametrize("usage_comes_after", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_that_is_closed_after_its_finish_reason_is_ok(
    measured, usage_comes_after, is_async
):
    told = {"usage_metadata": counted(100, 10)}
    last = LAST if usage_comes_after else LAST.model_copy(update=told)
    chunks = [AIMessageChunk("x"), last, AIMessageChunk("", **told)]
    model = Scripted(chunks=chunks if usage_comes_after else chunks[:2])

    async def read_async():
        stream = model.astream("hi")
        async for chunk in stream:
            if chunk.response_metadata.get("finish_reason"):
                break
        await stream.aclose()

    def read():
        stream = model.stream("hi")
        for chunk in stream:
            if chunk.response_metadata.get("finish_reason"):
                break
        stream.close()

    asyncio.run(read_async()) if is_async else read()
    page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 1
    assert unmeasured(page) == ({"no_usage": 1} if usage_comes_after else {})
    assert page.sum("agent_llm_tokens_total") == (0 if usage_comes_after else 110)


def test_a_stream_that_is_closed_before_is_aborted(measured):
    stream = Scripted(chunks=[AIMessageChunk("x"), AIMessageChunk("y"), LAST]).stream("hi")
    next(stream)
    stream.close()
    assert measured.page().sum(CALLS, status="aborted") == 1


def lines(caplog):
    return [one.getMessage() for one in caplog.records if "no_usage" in one.getMessage()]


def read_no_further(stream, *, breaks):
    if breaks:
        with pytest.raises(ConnectionError):
            list(stream)
        return
    for chunk in stream:
        if chunk.content == "y" or chunk.response_metadata:
            break
    stream.close()


@pytest.mark.parametrize(
    ("chunks", "breaks"),
    [
        ([AIMessageChunk("x"), AIMessageChunk("y"), LAST], False),
        ([AIMessageChunk("x"), LAST, AIMessageChunk("")], False),
        ([AIMessageChunk("x")], True),
    ],
    ids=["left", "left after its finish reason", "broken"],
)
def test_no_cure_is_named_for_a_stream_whose_end_did_not_come(measured, caplog, chunks, breaks):
    read_no_further(Scripted(chunks=chunks, breaks=breaks).stream("hi"), breaks=breaks)
    assert unmeasured(measured.page()) == {"no_usage": 1}
    assert lines(caplog) == []
    list(Scripted(chunks=[AIMessageChunk("x"), LAST]).stream("hi"))
    assert unmeasured(measured.page()) == {"no_usage": 2}
    (line,) = lines(caplog)
    assert "Cure: ChatOpenAI(stream_usage=True) # for streams that are read to their end" in line


def pace(page):
    name = "agent_llm_time_per_output_token_seconds"
    return page.sum(f"{name}_sum"), page.sum(f"{name}_count")


def timed(monkeypatch, chunks, seconds):
    """Streams these chunks, each so many seconds after the other."""
    now = itertools.count(1000)
    clock = lambda: next(now) * seconds  # noqa: E731
    for module in (call_module, model_call_module):
        monkeypatch.setattr(module, "perf_counter", clock)
    list(Scripted(chunks=chunks).stream("hi"))


def test_an_answer_in_one_chunk_has_no_pace(measured, monkeypatch):
    chunks = [AIMessageChunk("all of it"), AIMessageChunk("", usage_metadata=counted(10, 30))]
    timed(monkeypatch, chunks, 1)
    assert pace(measured.page()) == (0, 0)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_reasoning_counts_for_the_pace_only_where_it_is_streamed(
    measured, monkeypatch, is_streamed
):
    shown = [AIMessageChunk("", additional_kwargs={"reasoning_content": "x"})] * 90
    said = [AIMessageChunk("x")] * 11
    told = counted(10, 101, output_token_details={"reasoning": 90})
    end = [AIMessageChunk("", usage_metadata=told)]
    timed(monkeypatch, [*(shown if is_streamed else []), *said, *end], 1)
    assert pace(measured.page()) == (1, 1)


def test_captured_streams_are_the_assistants():
    with measuring(Settings(captures_on_spans=True)) as measured:
        list(Scripted(chunks=[AIMessageChunk("a"), AIMessageChunk("b")]).stream("hi"))
        (span,) = measured.spans
        (said,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert said == {"role": "assistant", "parts": [{"type": "text", "content": "ab"}]}
