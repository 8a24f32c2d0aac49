"""Whatever fails in us, the application answers byte for byte as if we were not there."""

import asyncio
import importlib
import inspect
import pkgutil
import socket

import pytest
from conftest import serving
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

import otel_coach
from otel_coach import recorder
from otel_coach.testing import measuring


def all_hooks():
    """(class, name) of every guarded hook in the package, found in its code."""
    found = []
    for module in pkgutil.walk_packages(otel_coach.__path__, "otel_coach."):
        loaded = importlib.import_module(module.name)
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            if cls.__module__ == module.name:
                found += [(cls, name) for name, member in vars(cls).items() if is_guarded(member)]
    return found


def is_guarded(member):
    return getattr(member, "__code__", None) is recorder.guarded(lambda self: None).__code__


HOOKS = all_hooks()


@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def application():
    app = FastAPI()
    model = FakeListChatModel(responses=["one two three"])

    async def node(state):
        await double.ainvoke({"number": 4})
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    agent = graph.compile()

    @app.get("/ask")
    async def ask():
        return (await agent.ainvoke({"messages": ["hi"]}))["messages"][-1].content

    @app.get("/stream")
    async def stream():
        async def chunks():
            async for part in model.astream("hi"):
                yield part.content
                await asyncio.sleep(0)

        return StreamingResponse(chunks())

    @app.get("/refused")
    async def refused():
        raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    @app.get("/broken")
    async def broken():
        raise ZeroDivisionError

    return app


PATHS = ("/ask", "/stream", "/refused", "/broken", "/nowhere")


def answers(app):
    found = []
    with serving(app) as client:
        for path in PATHS:
            address = (client.base_url.host, client.base_url.port)
            with socket.create_connection(address) as connection:
                connection.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
                )
                answer = b""
                while block := connection.recv(65536):
                    answer += block
            lines = answer.split(b"\r\n")
            found.append([line for line in lines if not line.lower().startswith(b"date:")])
    return found


@pytest.fixture(scope="module")
def bare():
    return answers(application())


def raising(*_args, **_kwargs):
    raise LookupError("injected")


def test_the_hooks_are_found():
    names = {f"{cls.__name__}.{name}" for cls, name in HOOKS}
    assert {"Exchange._finish", "CoachCallbackHandler.on_llm_end", "Layer._start"} <= names
    assert len(HOOKS) > 25


@pytest.mark.parametrize(
    ("cls", "name"), HOOKS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_fault_at_any_hook_changes_no_answer_and_is_counted(monkeypatch, bare, cls, name):
    monkeypatch.setattr(cls, name, recorder.guarded(raising))
    with measuring() as measured:
        assert answers(application()) == bare
        exercised = cls.__name__ != "CoachCallbackHandler" or name in {
            "on_chain_start",
            "on_chain_end",
            "on_chat_model_start",
            "on_llm_end",
            "on_llm_new_token",
            "on_tool_start",
            "on_tool_end",
        }
        # No client leaves here, and no process ends.
        if exercised and (cls.__name__, name) not in {
            ("Exchange", "_note_client_left"),
            ("Serving", "end"),
        }:
            assert measured.page().sum("otel_coach_errors_total", error_type="LookupError") > 0


def test_a_fault_at_every_hook_at_once_changes_no_answer(monkeypatch, bare):
    for cls, name in HOOKS:
        monkeypatch.setattr(cls, name, recorder.guarded(raising))
    with measuring():
        assert answers(application()) == bare


@pytest.mark.parametrize(
    "target",
    [
        "otel_coach.recorder.Recorder.record",
        "otel_coach.recorder.Recorder.end",
        "otel_coach.recorder.Recorder.later",
        "otel_coach.recorder.Recorder._measure",
        "otel_coach.budgets.LabelBudgets.admit",
        "otel_coach.instrumentors.asgi.exchange.find_route",
        "otel_coach.instrumentors.langchain.runs.Run.start_span",
        "otel_coach.instrumentors.langchain.handler.response_attributes",
        "opentelemetry.sdk.trace.Tracer.start_span",
        "opentelemetry.sdk.trace.Span.end",
        "opentelemetry.sdk.metrics.Counter.add",
        "opentelemetry.propagate.extract",
        "otel_coach.pricing.PriceList.cost",
    ],
)
def test_a_fault_below_the_hooks_changes_no_answer(monkeypatch, bare, target):
    with measuring():
        monkeypatch.setattr(target, raising)
        assert answers(application()) == bare
        monkeypatch.undo()


def test_a_callback_of_a_strange_version_changes_no_answer(measured):
    from otel_coach.instrumentors.langchain.handler import CoachCallbackHandler

    handler = CoachCallbackHandler(measured.installation.providers.recorder, None, None)
    handler.on_llm_end(object(), run_id=object())
    handler.on_chat_model_start(7, "messages", run_id="no uuid", metadata=3)
    handler.on_tool_start(["no", "dict"], None, run_id=None)
    assert measured.page().sum("otel_coach_errors_total") >= 3
