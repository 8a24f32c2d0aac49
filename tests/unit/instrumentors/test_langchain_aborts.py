"""LLM calls that their consumer cuts off, and what is kept of those that ended."""

import asyncio
import gc

import pytest

from otel_coach.instrumentors.langchain import LangChainInstrumentor
from tests.support.agents import CALLS, KeepsIds, SlowLLM, cancel_ainvoke, close_stream, slow_tool
from tests.support.waiting import eventually

# Cut off by the consumer


async def stop_astream(model):
    async for _ in model.astream("[pace:0.05]"):
        break


async def aclose_astream(model):
    stream = model.astream("[pace:0.05]")
    await anext(stream)
    await stream.aclose()


async def cancel_astream(model):
    async def consume():
        async for _ in model.astream("[pace:0.1]"):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def time_out_ainvoke(model):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await model.ainvoke("[delay:5]")


def drop_stream(model):
    stream = model.stream("[pace:0.05]")
    next(stream)
    del stream
    gc.collect()


@pytest.mark.parametrize(
    "way",
    [
        stop_astream,
        aclose_astream,
        cancel_astream,
        cancel_ainvoke,
        time_out_ainvoke,
        close_stream,
        drop_stream,
    ],
)
def test_a_call_cut_off_by_its_consumer_is_aborted_and_never_an_error(measured, model, way):
    result = way(model)
    if asyncio.iscoroutine(result):
        asyncio.run(result)
    eventually(lambda: measured.page().sum(CALLS) == 1)
    page = measured.page()
    assert page.sum(CALLS, status="aborted", error_type="") == 1
    assert page.sum("agent_llm_latency_seconds_count", status="aborted") == 1
    assert page.sum("agent_llm_latency_seconds_sum") < 2
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == 1
    (span,) = measured.spans
    assert span.attributes["otel_coach.outcome"] == "aborted"
    assert span.status.status_code.name == "UNSET"


@pytest.mark.parametrize("kind", ["chat model", "text model", "tool"])
def test_a_cancelled_call_is_aborted_though_somebody_keeps_its_id(measured, model, kind):
    keeps = KeepsIds()
    config = {"callbacks": [keeps]}
    calls = {
        "chat model": lambda: model.ainvoke("[delay:5]", config),
        "text model": lambda: SlowLLM().ainvoke("hi", config),
        "tool": lambda: slow_tool.ainvoke({}, config),
    }
    counter = "agent_tool_calls_total" if kind == "tool" else CALLS

    async def cut_off():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await calls[kind]()

    asyncio.run(cut_off())
    assert len(keeps.ids) == 1
    assert measured.page().sum(counter, status="aborted") == measured.page().sum(counter) == 1


def test_nothing_is_kept_of_ended_runs(measured, model):
    model.invoke("hi")
    asyncio.run(cancel_ainvoke(model))
    close_stream(model)
    eventually(lambda: measured.page().sum(CALLS) == 3)
    gc.collect()
    observer = LangChainInstrumentor().observer
    assert observer.recorder is measured.installation.providers.recorder
    assert len(observer._runs) == 0
