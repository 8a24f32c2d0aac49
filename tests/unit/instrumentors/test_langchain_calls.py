"""LLM calls: real ChatOpenAI over real HTTP, against the provider's ledger."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from tests.support.agents import CALLS, TOKENS, acollect, chain, collect
from tests.support.conservation import started
from tests.support.versions import STREAMS_TELL_PARTS
from tests.support.work import send

TEXT = "[cached:2] [reasoning:3] one"
WAYS = {
    "invoke": lambda m: m.invoke(TEXT),
    "ainvoke": lambda m: asyncio.run(m.ainvoke(TEXT)),
    "stream": lambda m: collect(m.stream(TEXT)),
    "astream": lambda m: asyncio.run(acollect(m.astream(TEXT))),
    "batch": lambda m: m.batch([TEXT, TEXT, TEXT]),
    "abatch": lambda m: asyncio.run(m.abatch([TEXT, TEXT])),
    "generate": lambda m: m.generate([[HumanMessage(TEXT)], [HumanMessage(TEXT)]]),
    "astream_events v2": lambda m: asyncio.run(acollect(m.astream_events(TEXT, version="v2"))),
    "chain": lambda m: chain(m).invoke({"text": TEXT}),
    "chain astream": lambda m: asyncio.run(acollect(chain(m).astream({"text": TEXT}))),
    "own callbacks": lambda m: m.invoke(TEXT, config={"callbacks": [BaseCallbackHandler()]}),
    "thread": lambda m: ThreadPoolExecutor().submit(m.invoke, TEXT).result(),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_calling_equals_the_ledger(measured, provider, model, way):
    WAYS[way](model)
    ledger = provider.ledger
    page = measured.page()
    labels = {"model": "gpt-3.5-turbo", "status": "ok", "error_type": ""}
    assert ledger
    assert page.sum(CALLS, **labels) == page.sum(CALLS) == len(ledger)
    assert page.sum("agent_llm_latency_seconds_count", status="ok") == len(ledger)
    assert page.sum(TOKENS, mode="prompt") == sum(entry.prompt_tokens for entry in ledger)
    assert page.sum(TOKENS, mode="completion") == sum(entry.completion_tokens for entry in ledger)
    telling = [entry for entry in ledger if STREAMS_TELL_PARTS or not entry.stream]
    assert page.sum("agent_llm_cached_tokens_total") == 2 * len(telling)
    assert page.sum("agent_llm_reasoning_tokens_total") == 3 * len(telling)
    assert page.sum("agent_llm_unmeasured_total") == 0
    dollars = sum(((e.prompt_tokens * 0.5) + e.completion_tokens * 1.5) / 1_000_000 for e in ledger)
    assert page.sum("agent_llm_cost_usd_total") == pytest.approx(dollars, abs=1e-9)
    streamed = [entry for entry in ledger if entry.stream]
    assert page.sum(CALLS, mode="stream") == len(streamed)
    assert page.sum(CALLS, mode="invoke") == len(ledger) - len(streamed)
    assert page.sum("agent_llm_time_to_first_token_seconds_count") == len(streamed)
    assert page.sum("agent_llm_time_per_output_token_seconds_count") == len(streamed)


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ("[fail:429]", "error", "RateLimit"),
        ("[fail:401]", "error", "Authentication"),
        ("[fail:400]", "error", "BadRequest"),
        ("[fail:500]", "error", "APIError"),
        ("[cut]", "error", "Connection"),
        ("[garbage]", "error", "JSONDecodeError"),
    ],
)
@pytest.mark.parametrize("way", ["invoke", "stream", "astream"])
def test_a_failed_call_has_the_class_that_the_callback_received(
    measured, model, provider, text, status, error, way
):
    seen = []

    class Witness(BaseCallbackHandler):
        def on_llm_error(self, error, **_):
            seen.append(type(error).__name__)

    config = {"callbacks": [Witness()]}
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever class LangChain raises
        match way:
            case "invoke":
                model.invoke(text, config)
            case "stream":
                collect(model.stream(text, config))
            case "astream":
                asyncio.run(acollect(model.astream(text, config)))
    page = measured.page()
    assert len(seen) == 1
    assert page.sum(CALLS, status=status, error_type=seen[0]) == page.sum(CALLS) == 1
    # Refused before its first chunk: not billed. Cut after it: nobody knows.
    was_billed = any(entry.chunks_sent for entry in provider.ledger)
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == was_billed
    (span,) = measured.spans
    assert span.status.status_code.name == "ERROR"
    assert span.status.description is None
    assert span.attributes["error.type"] == seen[0]
    assert not span.events


def test_a_call_without_usage_is_unmeasured_and_not_guessed(measured, model):
    model.invoke("[no-usage]")
    collect(model.stream("[no-usage]"))
    page = measured.page()
    assert page.sum("agent_llm_unmeasured_total", model="gpt-3.5-turbo", error_type="no_usage") == 2
    assert page.sum(TOKENS) == 0
    assert page.sum(CALLS, status="ok") == 2


def test_a_model_without_a_price_is_unmeasured_but_its_tokens_count(measured, provider):
    own = ChatOpenAI(model="our-own-model", api_key="k", base_url=provider.base_url)
    own.invoke("hi")
    page = measured.page()
    assert page.sum("agent_llm_unmeasured_total", model="our-own-model", error_type="no_price") == 1
    assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == 0
    assert page.sum(TOKENS, model="our-own-model") > 0
    assert page.samples("agent_llm_cost_usd_total") == []


def test_the_first_token_is_the_first_with_content(measured, model):
    collect(model.stream("[empty]"))
    page = measured.page()
    assert page.sum(CALLS, mode="stream") == 1
    assert page.sum("agent_llm_time_to_first_token_seconds_count") == 0


# Cut off by the consumer


async def one_task_per_chunk(model):
    """As some frameworks do; the first task's end must not end the run."""
    stream = model.astream("[pace:0.02] [tokens:5]")
    chunks = 0
    while True:
        try:
            await asyncio.create_task(anext_(stream))
            chunks += 1
        except StopAsyncIteration:
            return


async def anext_(stream):
    return await anext(stream)


def test_a_stream_read_by_one_task_per_chunk_ends_once_and_well(measured, model):
    asyncio.run(one_task_per_chunk(model))
    page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 1
    assert page.sum(TOKENS, mode="completion") == 5


# The mode


def test_an_answer_from_langchains_cache_is_no_call(measured, provider):
    from langchain_core.caches import InMemoryCache

    cached = ChatOpenAI(
        model="gpt-3.5-turbo", api_key="k", base_url=provider.base_url, cache=InMemoryCache()
    )
    for _ in range(3):
        cached.invoke("hi")
    asyncio.run(cached.ainvoke("hi"))
    assert len(provider.ledger) == 1
    started["LLM calls"] -= 3  # they never reached the provider
    assert measured.page().sum(CALLS) == 1
    assert [s.attributes.get("otel_coach.outcome") for s in measured.spans] == [
        None,
        *["cached"] * 3,
    ]


def test_a_call_whose_answer_another_finds_in_the_cache_before_it_ends_is_a_call(
    measured, provider
):
    from langchain_core.caches import InMemoryCache

    class AskedMeanwhile(InMemoryCache):
        async def aupdate(self, *arguments):
            await super().aupdate(*arguments)
            answers.append(await model.ainvoke("hi"))

    answers = []
    model = ChatOpenAI(
        model="gpt-3.5-turbo", api_key="k", base_url=provider.base_url, cache=AskedMeanwhile()
    )
    answers.append(asyncio.run(model.ainvoke("hi")))
    assert len(provider.ledger) == 1
    started["LLM calls"] -= 1  # it never reached the provider
    page = measured.page()
    assert page.sum(CALLS) == 1
    assert page.sum(TOKENS, mode="completion") == provider.ledger[0].completion_tokens
    assert [one.content for one in answers] == [answers[0].content] * 2


def test_the_model_of_an_ai_request_is_that_of_its_first_call(measured, provider):
    """Written by hand: what was asked in a request, and which of it the provider has answered."""
    from langchain_core.caches import InMemoryCache

    cache = InMemoryCache()

    def model(name):
        return ChatOpenAI(model=name, api_key="k", base_url=provider.base_url, cache=cache)

    def ask(*asked):
        for name, text in asked:
            model(name).invoke(text)

    async def ask_at_once(*asked):
        await asyncio.gather(*(model(name).ainvoke(text) for name, text in asked))

    app = FastAPI()
    known, new, other = ("gpt-4o", "known"), ("gpt-4o", "new"), ("gpt-4o-mini", "new")
    app.get("/all-from-the-cache")(lambda: ask(known, known))
    app.get("/another-model-is-called")(lambda: ask(known, other, ("gpt-4", "1")))
    app.get("/the-same-model-is-called")(lambda: ask(known, new, ("gpt-4", "2")))

    @app.get("/at-once")
    async def at_once():
        await ask_at_once(known, ("gpt-3.5-turbo", "3"), known)

    ask(known)
    for name in ("all-from-the-cache", "another-model-is-called", "the-same-model-is-called"):
        send(app, f"/{name}")
    send(app, "/at-once")
    started["LLM calls"] -= 6  # they never reached the provider
    found = {
        labels["endpoint"]: labels["model"]
        for labels, _ in measured.page().samples("app_ai_request_duration_seconds_count")
    }
    assert found == {
        "/all-from-the-cache": "none",
        "/another-model-is-called": "gpt-4o-mini",
        "/the-same-model-is-called": "gpt-4o",
        "/at-once": "gpt-3.5-turbo",
    }


# Broken input


def test_a_model_name_that_changes_with_every_request_stays_within_its_budget(measured, provider):
    options = {"api_key": "k", "base_url": provider.base_url}
    for number in range(40):
        ChatOpenAI(model=f"model-{number}", **options).invoke("[tokens:1]")
    page = measured.page()
    models = {labels["model"] for labels, _ in page.samples(CALLS)}
    assert len(models - {"other"}) == 20
    assert "other" in models
    assert page.sum(CALLS) == 40
    assert page.sum("otel_coach_label_overflow_total", error_type="model") > 0
