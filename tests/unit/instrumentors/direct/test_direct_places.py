"""Where calls are made: in requests, in LangChain's runs, beside other instrumentations."""

import asyncio
import sys
import types

import httpx
import openai
import pytest
import wrapt
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

import otel_coach
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.direct_calls import HELPERS, STREAMS, WHOLE, chat, has, http_library
from tests.unit.instrumentors.direct.conftest import CALLS

DURATION = "app_ai_request_duration_seconds_count"


def ask(client, text="hi"):
    return WHOLE["chat"](client, text, "anna")


def names(measured):
    by_id = {span.context.span_id: span for span in measured.spans}
    return {
        span.name: by_id[span.parent.span_id].name if span.parent else None
        for span in measured.spans
    }


# In LangChain's runs


@pytest.fixture
def model(provider):
    return ChatOpenAI(model="gpt-3.5-turbo", api_key="k", base_url=provider.base_url, max_retries=0)


@pytest.mark.parametrize("how", ["invoke", "stream", "async", "raw", "batch"])
def test_below_a_model_of_langchain_it_is_that_call(how, measured, model, provider):
    async def read():
        await model.ainvoke("hi")
        return [chunk async for chunk in model.astream("hi")]

    ways = {
        "invoke": lambda: model.invoke("hi"),
        "stream": lambda: list(model.stream("hi")),
        "async": lambda: asyncio.run(read()),
        "raw": lambda: model.model_copy(update={"include_response_headers": True}).invoke("hi"),
        "batch": lambda: model.batch(["hi", "ho"]),
    }
    ways[how]()
    assert measured.page().sum(CALLS) == len(provider.ledger) == len(measured.spans)


def test_a_tool_that_calls_the_package_makes_a_call_of_its_own(measured, clients, model):
    @tool
    def coach(question: str) -> str:
        """Asks the coach."""
        return ask(clients["openai"], question).choices[0].message.content

    coach.invoke({"question": "hi"})
    model.invoke("hi")
    assert measured.page().sum(CALLS, model="gpt-4o-mini") == 1
    assert measured.page().sum(CALLS, model="gpt-3.5-turbo") == 1
    assert names(measured)["chat gpt-4o-mini"] == "execute_tool coach"
    assert names(measured)["chat gpt-3.5-turbo"] is None


def test_a_node_that_calls_the_package_makes_a_call_in_the_agent(measured, clients, model):
    def node(state):
        ask(clients["openai"])
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.compile().invoke({"messages": ["hi"], "mode": "streamlit"})
    found = names(measured)
    assert found["chat gpt-4o-mini"] == found["chat gpt-3.5-turbo"] == "invoke_agent LangGraph"


def test_a_package_that_is_called_between_two_models_is_a_call_of_its_own(measured, clients, model):
    model.invoke("hi")
    ask(clients["openai"])
    model.invoke("hi")
    assert measured.page().sum(CALLS, model="gpt-4o-mini") == 1
    assert measured.page().sum(CALLS) == 3


# In requests


def send(app, path):
    async def sent():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            return await client.get(path)

    return asyncio.run(sent())


@pytest.fixture
def app(clients):
    client = clients["openai"]
    app = FastAPI()

    @app.get("/ask")
    def asked(text: str = "hi"):
        return ask(client, text).choices[0].message.content

    @app.get("/hidden")
    def hidden():
        try:
            ask(client, "[fail:500]")
        except openai.APIError:
            return "sorry"

    @app.get("/stream")
    def streamed():
        def parts():
            for chunk in STREAMS["chat_stream"](client, "hi", "anna"):
                yield chunk.choices[0].delta.content or "" if chunk.choices else ""

        return StreamingResponse(parts())

    @app.get("/labelled")
    def labelled():
        with otel_coach.labels(mode="streamlit"):
            return ask(client).choices[0].message.content

    app.get("/chain")(lambda: careful_chain(client).invoke("hi"))
    return app


def careful_chain(client):
    def careful(_text):
        try:
            ask(client, "[fail:500]")
        except openai.APIError:
            return "sorry"

    return RunnableLambda(careful)


@pytest.mark.parametrize(
    ("path", "mode", "status"),
    [
        ("/ask", "invoke", "ok"),
        ("/ask?text=[fail:429]", "invoke", "error"),
        ("/hidden", "invoke", "error"),  # the outermost run failed, though the answer hides it
        ("/stream", "stream", "ok"),
        ("/chain", "invoke", "ok"),  # the chain dealt with it
        ("/labelled", "streamlit", "ok"),
    ],
)
def test_a_request_that_calls_the_package_is_an_ai_request(path, mode, status, measured, app):
    send(app, path)
    ((labels, count),) = measured.page().samples(DURATION)
    assert count == 1
    assert labels == {
        "endpoint": path.partition("?")[0],
        "model": "gpt-4o-mini",
        "mode": mode,
        "status": status,
    }
    assert names(measured)["chat gpt-4o-mini"] == f"GET {path.partition('?')[0]}"


def test_a_request_without_a_call_is_none(measured):
    app = FastAPI()

    @app.get("/none")
    def none():
        raise HTTPException(404)

    send(app, "/none")
    assert measured.page().sum(DURATION) == 0


# Privacy


class Injecting(httpx.BaseTransport):
    """A transport that an instrumentation of the HTTP client injects into."""

    def __init__(self, module):
        self._transport = module.HTTPTransport()
        self.sent = []

    def handle_request(self, request):
        headers = {}
        propagate.inject(headers)
        self.sent.append(headers)
        return self._transport.handle_request(request)

    def close(self):
        self._transport.close()


@pytest.mark.parametrize("name", ["chat", "chat_stream"])
def test_a_provider_gets_no_trace_headers(name, measured, provider):
    module = http_library()
    injecting = type("Injecting", (Injecting, module.BaseTransport), {})(module)
    tracer = measured.installation.providers.tracer_provider.get_tracer("application")
    with (
        openai.OpenAI(
            api_key="k",
            base_url=provider.base_url,
            http_client=module.Client(transport=injecting),
        ) as client,
        tracer.start_as_current_span("around"),
    ):
        answer = {**WHOLE, **STREAMS}[name](client, "hi", "anna")
        headers = {}
        propagate.inject(headers)
        assert "traceparent" in headers  # what else the application calls gets them
        list(answer)
    assert injecting.sent == [{}]


CAPTURED = Settings(captures_on_spans=True)


@pytest.mark.parametrize(
    "name", ["chat", "chat_stream", "responses", "responses_stream", "messages", "messages_stream"]
)
def test_content_is_on_spans_only_if_it_is_asked_for(name, clients, provider):
    client = clients["anthropic" if name.startswith("messages") else "openai"]
    way = {**WHOLE, **STREAMS}[name]
    if not has(client, way):
        pytest.skip("this version of the package has no such method")
    for settings in (Settings(), CAPTURED):
        with measuring(settings) as measured:
            answer = way(client, "[say:sunshine] moonlight", "anna")
            if name in STREAMS:
                list(answer)
            (span,) = measured.spans
        told = str(dict(span.attributes))
        assert ("sunshine" in told) == ("moonlight" in told) == (settings is CAPTURED)
        if settings is CAPTURED:
            assert span.attributes["gen_ai.output.messages"] == (
                '[{"role":"assistant","parts":[{"type":"text","content":"sunshine"}]}]'
            )


@pytest.mark.parametrize("name", ["chat", "chat_stream", "responses_stream", "messages_stream"])
def test_a_tool_call_is_captured_with_its_arguments(name, clients):
    client = clients["anthropic" if name.startswith("messages") else "openai"]
    way = {**WHOLE, **STREAMS}[name]
    if not has(client, way):
        pytest.skip("this version of the package has no such method")
    with measuring(CAPTURED) as measured:
        list(way(client, "[tool:weather]", "anna"))
        (span,) = measured.spans
    told = span.attributes["gen_ai.output.messages"]
    assert '"name":"weather","arguments":{"city":"Berlin"}' in told


# Beside other instrumentations


def test_a_span_of_another_instrumentation_around_a_call_stands_for_it(measured, clients):
    theirs = measured.installation.providers.tracer_provider.get_tracer(
        "opentelemetry.instrumentation.openai_v2"
    )
    with theirs.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT):
        ask(clients["openai"])
    assert measured.page().sum(CALLS, status="ok") == 1
    (span,) = measured.spans
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.openai_v2"


def test_an_instrumentation_that_patched_the_clients_class_before_is_left_as_it_is(clients):
    theirs = []

    def seen(wrapped, instance, args, kwargs):
        theirs.append(instance)
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper("openai", "OpenAI.request", seen)
    try:
        with measuring() as measured:
            ask(clients["openai"])
            clients["openai"].embeddings.create(model="text-embedding-3-small", input="one two")
            page = measured.page()
            assert page.sum(CALLS, status="ok") == 1
            assert page.sum("agent_llm_tokens_total", mode="embedding") == 2
        assert theirs == [clients["openai"]] * 2
    finally:
        del openai.OpenAI.request


def test_an_instrumentation_that_is_active_makes_the_span(clients, monkeypatch):
    made = []

    class OpenAIInstrumentor(BaseInstrumentor):
        def __init__(self, setting="default"):
            made.append(setting)

        def instrumentation_dependencies(self):
            return ()

        def _instrument(self, **_kwargs):
            """Does nothing."""

        def _uninstrument(self, **_kwargs):
            """Does nothing."""

    module = types.ModuleType("opentelemetry.instrumentation.openai")
    module.OpenAIInstrumentor = OpenAIInstrumentor
    monkeypatch.setitem(sys.modules, module.__name__, module)
    theirs = OpenAIInstrumentor("theirs")
    theirs.instrument(skip_dep_check=True)
    with measuring() as measured:
        ask(clients["openai"])
        assert not measured.spans
        assert made == ["theirs"]  # `__init__` was not run again
        theirs.uninstrument()
        ask(clients["openai"])
        assert len(measured.spans) == 1
        assert measured.page().sum(CALLS, status="ok") == 2


# What the host has in its hands


def test_streams_are_the_packages_own_and_closing_them_closes_the_response(measured, clients):
    stream = STREAMS["chat_stream"](clients["openai"], "hi", "anna")
    assert type(stream) is openai.Stream
    assert isinstance(next(stream), openai.types.chat.ChatCompletionChunk)
    assert not stream.response.is_closed
    with stream:
        next(stream)
    assert stream.response.is_closed
    assert "close" not in vars(stream.response)
    with (
        HELPERS["chat_helper"](clients["openai"], "hi", "anna")
        if has(clients["openai"], HELPERS["chat_helper"])
        else STREAMS["chat_stream"](clients["openai"], "hi", "anna") as helped
    ):
        assert list(helped)


def test_request_is_given_back(clients, provider):
    owner = [cls for cls in openai.OpenAI.__mro__ if "request" in vars(cls)][-1]
    before = vars(owner)["request"]
    with measuring():
        assert vars(owner)["request"] is not before
        stream = openai.OpenAI(api_key="k", base_url=provider.base_url).chat.completions.create(
            **chat("hi", "anna"), stream=True
        )
    assert vars(owner)["request"] is before
    assert len(list(stream)) > 2
    assert ask(clients["openai"]).choices
