"""Whatever fails in us, the application answers byte for byte as if we were not there."""

import asyncio
import inspect
import itertools
import socket
import sys
import time
from contextvars import ContextVar

import openai  # noqa: F401 - its calls are watched only where the application has imported it
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from otel_coach.core import guard
from otel_coach.instrumentors.asgi.turns import Turn
from otel_coach.instrumentors.asgi.websocket import Connection
from otel_coach.testing import measuring
from tests.support.hooks import HOOKS, REFUSALS, STOPPING, STOPPING_SOCKETS, inject
from tests.support.serving import serving
from tests.support.waiting import eventually

# An application, and all that it answers, raises and sees


@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


LIMIT = ContextVar("limit")


class Slow(FakeListChatModel):
    """Its call is cancelled when it has begun, and not before: then there would be no run yet."""

    async def _agenerate(self, *_, **__):
        LIMIT.get().reschedule(asyncio.get_running_loop().time())
        await asyncio.sleep(30)


class Passing:
    """A middleware, of which it is not known that it leaves the path as it is."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


def application(meters=None, tracers=None, seen=None):  # noqa: C901 - seven routes
    app = FastAPI()
    app.add_middleware(Passing)
    model = FakeListChatModel(responses=["one two three"])
    counter = (meters or NoOpMeterProvider()).get_meter("app").create_counter("asked")
    tracer = (tracers or NoOpTracerProvider()).get_tracer("app")

    async def node(state):
        await double.ainvoke({"number": 4})
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    agent = graph.compile()

    @app.get("/ask")
    async def ask():
        counter.add(1, {"model": "m", "user": "u"})
        with tracer.start_as_current_span("asking") as span:
            span.set_attribute("user", "u")
            return (await agent.ainvoke({"messages": ["hi"]}))["messages"][-1].content

    @app.get("/stream")
    async def stream():
        async def chunks():
            async for part in model.astream("hi"):
                yield part.content
                await asyncio.sleep(0)

        return StreamingResponse(chunks())

    @app.get("/endless")
    async def endless():
        async def chunks():
            try:
                while True:
                    yield "chunk"
                    await asyncio.sleep(0.01)
            finally:
                seen.append(type(sys.exception()).__name__)

        return StreamingResponse(chunks())

    @app.get("/cancelled")
    async def cancelled():
        try:
            async with asyncio.timeout(None) as limit:
                LIMIT.set(limit)
                await Slow(responses=["never"]).ainvoke("hi")
        except TimeoutError as error:
            return type(error.__cause__).__name__

    @app.get("/refused")
    async def refused():
        raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    @app.get("/broken")
    async def broken():
        raise ZeroDivisionError

    return app


PATHS = ("/ask", "/stream", "/cancelled", "/refused", "/broken", "/nowhere", "/ask", "/stream")


def request(address, path):
    connection = socket.create_connection(address)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    return connection


def answers(measured=None):
    providers = measured.installation.providers if measured else None
    seen = []
    app = application(
        providers and providers.meter_provider, providers and providers.tracer_provider, seen
    )
    found = []
    with serving(app) as client:
        address = (client.base_url.host, client.base_url.port)
        for path in PATHS:
            with request(address, path) as connection:
                answer = b""
                while block := connection.recv(65536):
                    answer += block
            lines = answer.split(b"\r\n")
            found.append([line for line in lines if not line.lower().startswith(b"date:")])
        with request(address, "/endless") as leaving:
            while b"chunk" not in leaving.recv(65536):
                pass
        eventually(lambda: seen)
    return found, seen


@pytest.fixture(scope="module")
def bare():
    found = answers()
    assert found[1] == ["CancelledError"]
    return found


# What fails


@pytest.fixture(autouse=True)
def _settled_within_requests(monkeypatch):
    monkeypatch.setattr("otel_coach.metrics.recorder._ENOUGH", 8)


class Panic(BaseException):
    """What an extension in another language raises when it gives up."""


def recursing(*args, **kwargs):
    return recursing(*args, **kwargs)


def raising(*_args, **_kwargs):
    raise LookupError("injected")


def panicking(*_args, **_kwargs):
    raise Panic("injected")


def in_turn(*faults):
    turns = itertools.cycle(faults)

    def fault(*args, **kwargs):
        return next(turns)(*args, **kwargs)

    return fault


NOT_CALLED_HERE = {
    *("CachedAnswers.copied", "CachedAnswers.note"),  # no model here has a cache
    *("RunRecorder._content_of_call", "RunRecorder._content_of"),
    *(f"RunObserver.{name}" for name in ("on_chain_error", "on_llm_start", "on_llm_error")),
    *(f"RunObserver.on_retriever_{name}" for name in ("start", "end", "error")),
    *("RunObserver.on_stream_event", "RunObserver.on_tool_error"),
    *("RunObserver.end_runs", "Health.note", "LangChainInstrumentor.start"),
    *(
        "ContribInstrumentations._load_psycopg",
        "Installation.application_stopped",
        "Installation.exit",
    ),
    *("LangChainInstrumentor._observe", "LangChainInstrumentor._observe_embeddings"),
    *(f"EmbeddingObserver.{name}" for name in ("started", "ended", "end_calls")),
    "EmbeddingPatches._patch_new",
    # tests/unit/instrumentors/direct/test_direct_faults.py makes these fail.
    "ClientCalls.begin",
    *(
        f"OpenCalls.{name}"
        for name in ("enter", "exit", "goes_on_after", "end", "leave", "end_runs")
    ),
    *(f"OpenCalls.{name}" for name in ("_billing", "_content", "_note", "_prompt")),
    *("ClientInstrumentor._patch", "RunObserver.enclosing"),
    *("Serving.end", "Serving.refresh", "ContribInstrumentations._hand_over"),
    *("Serving.stop", "MetricsEndpoint.combined"),  # at the end; a page of the application's own
    *("ProviderHeaders._patch", "ProviderHeaders.is_for_a_provider"),  # no provider is called here
    # tests/integration/abandoned, test_abandoned_on_demand.py and _sockets.py, make these fail.
    "RunRecorder._end_in_loop",  # test_abandoned_cost.py
    *(f"{cls.__name__}.{name}" for cls, name in (*STOPPING, *STOPPING_SOCKETS, *REFUSALS)),
    # tests/integration/test_websockets.py makes these fail.
    *(f"{cls.__name__}.{name}" for cls, name in HOOKS if cls in {Connection, Turn}),
    "Middleware._watch_socket",
    "Middleware._page_answer",  # test_own_page.py makes this one fail
    *("ProviderHeaders.is_trusted", "Middleware._is_trusted"),  # everybody is trusted here
    *("AsgiInstrumentor._patch", "Encoder.encode_spans", "RedactingSpanProcessor._applied"),
}
"""Hooks that this application does not reach, or not while it is watched."""


@pytest.mark.parametrize(
    ("cls", "name"), HOOKS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_fault_at_any_hook_changes_nothing_for_the_application(monkeypatch, bare, cls, name):
    inject(monkeypatch, cls, name, in_turn(raising, panicking, recursing))
    with measuring() as measured:
        assert answers(measured) == bare
        counted = measured.page().sum("otel_coach_errors_total")
        assert counted > 0 or f"{cls.__name__}.{name}" in NOT_CALLED_HERE


@pytest.mark.parametrize(
    "fault", [raising, panicking, recursing, lambda *_, **__: time.sleep(0.002)]
)
def test_a_fault_at_every_hook_at_once_changes_nothing(monkeypatch, bare, fault):
    for cls, name in HOOKS:
        inject(monkeypatch, cls, name, fault)
    with measuring() as measured:
        assert answers(measured) == bare


def test_hooks_that_are_slow_change_nothing_but_the_time(monkeypatch, bare):
    def slowed(original):
        def slow(*args, **kwargs):
            time.sleep(0.002)
            return original(*args, **kwargs)

        return slow

    for cls, name in HOOKS:
        original = vars(cls)[name]
        if not inspect.iscoroutinefunction(original):
            monkeypatch.setattr(cls, name, slowed(original))
    with measuring() as measured:
        assert answers(measured) == bare
        assert measured.page().sum("otel_coach_errors_total") == 0


def test_a_fault_is_logged_once_not_at_each_request(monkeypatch, bare, caplog):
    from otel_coach.instrumentors.asgi.exchange import Exchange

    monkeypatch.setattr(Exchange, "_finish", guard.guarded(raising))
    with measuring() as measured:
        assert answers(measured) == bare
        assert measured.page().sum("otel_coach_errors_total", error_type="LookupError") >= 9
    assert caplog.text.count("was swallowed") == 1


@pytest.mark.parametrize(
    "target",
    [
        "otel_coach.metrics.recorder.Recorder.record",
        "otel_coach.metrics.recorder.Recorder.later",
        "otel_coach.metrics.aggregation.Aggregation.add",
        "otel_coach.metrics.cardinality.Budgets.bounded",
        "otel_coach.metrics.cardinality.Budgets.together",
        "otel_coach.sdk.redaction.Redaction.applied",
        "otel_coach.instrumentors.asgi.answering.find_route",
        "otel_coach.instrumentors.asgi.routes.Routes.find",
        "otel_coach.instrumentors.asgi.server_span.end_attributes",
        "otel_coach.instrumentors.asgi.exchange.Exchange._note_start",
        "otel_coach.instrumentors.langchain.call.LangChainCall.chunk_came",
        "otel_coach.instrumentors.genai.runs.Run.start_span",
        "otel_coach.instrumentors.genai.run_recorder.response_attributes",
        "otel_coach.sdk.deferred_spans.DeferredTracer.start_span",
        "otel_coach.sdk.deferred_spans.SpanContext",
        "otel_coach.sdk.deferred_spans.DeferredSpan.end",
        "opentelemetry.sdk.metrics.Counter.add",
        "opentelemetry.propagate.extract",
        "otel_coach.pricing.price_list.PriceList.priced",
    ],
)
@pytest.mark.parametrize("fault", [raising, panicking])
def test_a_fault_below_the_hooks_changes_no_answer(monkeypatch, bare, target, fault):
    with measuring() as measured:
        # The application's own calls of the SDK are its own: it makes none here.
        own = "opentelemetry.sdk" in target
        monkeypatch.setattr(target, fault)
        assert answers(None if own else measured) == bare
        monkeypatch.undo()
