"""Whatever fails in us, the application answers byte for byte as if we were not there."""

import ast
import asyncio
import importlib
import inspect
import itertools
import pkgutil
import socket
import sys
import time
from contextvars import ContextVar
from pathlib import Path

import pytest
import wrapt
from conftest import eventually, serving
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider

import otel_coach
from otel_coach import guards
from otel_coach.guards import guarded
from otel_coach.instrumentors.langchain import trials
from otel_coach.instrumentors.langchain.observer import RunObserver
from otel_coach.testing import measuring

PACKAGE = Path(otel_coach.__file__).parent
GUARDS = {
    guards.guarded(lambda self: None).__code__,
    guards.guarded_async(lambda self: None).__code__,
}


# Which hooks there are, found in the code


def all_classes():
    for module in pkgutil.walk_packages(otel_coach.__path__, "otel_coach."):
        loaded = importlib.import_module(module.name)
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            if cls.__module__ == module.name:
                yield cls


def is_guarded(member):
    return getattr(member, "__code__", None) in GUARDS


CLASSES = list(all_classes())
HOOKS = [(c, name) for c in CLASSES for name, member in vars(c).items() if is_guarded(member)]

OURS_ALONE = {
    # What is called in our own threads, by our own page, or while the process starts.
    "AsgiInstrumentor": {"_instrument", "_uninstrument", "instrumentation_dependencies"},
    "DependenciesInstrumentor": {"_instrument", "_uninstrument", "instrumentation_dependencies"},
    "LangChainInstrumentor": {"_instrument", "_uninstrument", "instrumentation_dependencies"},
    "OwnThread": {"run"},
    "OtelCoachDistro": {"_configure", "load_instrumentor"},
    "ExemplarReader": {"_receive_metrics", "force_flush", "shutdown"},
    "PushReader": {"_receive_metrics"},
    "CountedExporter": {"export"},  # in the SDK's threads, which it does not end
    "CountedLogs": {"shutdown"},
    "_Noted": {"on_emit", "shutdown", "force_flush"},  # an assignment, or nothing
    "CountedSpans": {"on_end", "shutdown"},  # behind the guard of RedactingSpanProcessor
    "_Only": {"collect"},
    "_HeaderGetter": {"get", "keys"},  # inside Layer._server_context
    "RedactingSpanProcessor": {"shutdown", "force_flush"},
}
GUARDED_INSIDE = {
    # They are the host's call with ours in it: what is ours there is guarded.
    # To shut it down is to write the last figures, guarded, and the SDK's own; after a fork, errors
    # are only printed.
    "CoachMeterProvider": {"get_meter", "shutdown", "_update_resource"},
    # A tracer of our own scope, for which nobody else asks.
    "RedactingTracerProvider": {"get_tracer", "_update_resource"},
    "CountedLogs": {"on_emit"},  # a place in a queue is taken
    "ProviderTracer": {"start_span", "start_as_current_span"},  # a context is read
    "Withholding": {"extract", "inject", "fields"},
    "TracerAtOnce": {"start_span", "start_as_current_span"},  # inside our own hooks
    "_Meter": {f"create_{kind}" for kind in ("counter", "up_down_counter", "histogram", "gauge")}
    | {f"create_observable_{kind}" for kind in ("counter", "up_down_counter", "gauge")},
    "_Instrument": {"add", "record", "set"},
    "_Batching": {"_create_aggregation"},  # inside an instrument's own
}
SPAN = {
    *("add_event", "add_link", "end", "get_span_context", "is_recording", "record_exception"),
    *("set_attribute", "set_attributes", "set_status", "update_name"),
}
TOO_SMALL_TO_FAIL = {
    # An attribute is read, a number compared; a guard would cost more than they do.
    "OneLineAMinute": {"filter"},
    "SpanOfRun": SPAN,
    "SpanAtOnce": SPAN,  # it takes what the SDK's takes, and leaves the checks to the same classes
}


def test_the_hooks_are_found():
    names = {f"{cls.__name__}.{name}" for cls, name in HOOKS}
    assert {"Exchange._finish", "RunObserver.on_llm_end", "Layer._start"} <= names
    assert len(HOOKS) > 40


def test_whatever_others_call_is_guarded_or_has_its_reason():
    """Methods of our classes that stand in for methods of others' classes."""
    known = {}
    for reasons in (OURS_ALONE, GUARDED_INSIDE, TOO_SMALL_TO_FAIL):
        for cls, names in reasons.items():
            known.setdefault(cls, set()).update(names)
    found = {}
    for cls in CLASSES:
        foreign = [
            base
            for base in cls.__mro__[1:]
            if not base.__module__.startswith(("otel_coach", "builtins", "typing", "enum", "abc"))
        ]
        if issubclass(cls, wrapt.ObjectProxy):
            inherited = {name for name in vars(cls) if not name.startswith("_")}
        else:
            inherited = {name for base in foreign for name in vars(base)}
        for name, member in vars(cls).items():
            overrides = name in inherited and (callable(member) or isinstance(member, property))
            if overrides and not is_guarded(member) and not name.startswith("__"):
                found.setdefault(cls.__name__, set()).add(name)
    if not hasattr(TracerProvider, "_update_resource"):  # before SDK 1.45
        for names in known.values():
            names.discard("_update_resource")
    assert found == known


def test_whatever_langchain_is_made_to_call_is_guarded():
    named = (*trials.STARTS.values(), *trials.ENDS.values())
    told = {"on_stream_event", *(name for names in named for name in names)}
    assert {"holder", *told} <= {name for cls, name in HOOKS if cls is RunObserver}
    # `note` has its guard in itself, which is cheaper.


def test_whatever_we_register_with_others_is_known_here():
    """By the calls that hand a function of ours to somebody else's code."""
    handed_over = {
        "register_post_import_hook",
        "register_at_fork",
        "add_done_callback",
        *("ref", "WeakMethod"),
    }
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                function = ast.unparse(node.func)
                if function.rpartition(".")[2] in handed_over or function in {
                    "gc.callbacks.append",
                    "atexit.register",
                }:
                    place = path.relative_to(PACKAGE).with_suffix("").as_posix()
                    found.add((place, function, ast.unparse(node.args[0]) if node.args else ""))
    assert {(place, function) for place, function, _ in found} == {
        # Errors after a fork are only printed.
        ("forks", "os.register_at_fork"),
        ("forks", "weakref.WeakMethod"),  # without a callback
        ("installation", "atexit.register"),  # Installation.exit is guarded
        ("installation", "wrapt.register_post_import_hook"),  # _load_psycopg is guarded
        ("instrumentors/asgi/__init__", "wrapt.register_post_import_hook"),  # _patch is
        ("instrumentors/langchain/__init__", "wrapt.register_post_import_hook"),  # _observe is
        ("instrumentors/langchain/runs", "task.add_done_callback"),  # _task_done is guarded
        ("instrumentors/provider_headers", "wrapt.register_post_import_hook"),  # _patch is
        # In an event loop of ours, in a thread of ours, which reports what is raised there.
        ("exposition/page_server", "task.add_done_callback"),
        ("instrumentors/asgi/layer", "weakref.ref"),  # without a callback
        ("instrumentors/asgi/routes", "weakref.ref"),  # as well
        ("instrumentors/langchain/runs", "weakref.ref"),  # _lose is guarded
        ("instrumentors/langchain/trials", "weakref.ref"),  # without a callback
        ("garbage", "gc.callbacks.append"),  # two of C's
        ("workers/supervisor", "os.register_at_fork"),
    }


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


def application(meters=None, tracers=None, seen=None):  # noqa: C901 - seven routes
    app = FastAPI()
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
    monkeypatch.setattr("otel_coach.recorder._ENOUGH", 8)


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


def inject(monkeypatch, cls, name, fault):
    original = vars(cls)[name]
    if inspect.iscoroutinefunction(original):

        async def failing(*args, **kwargs):
            fault(*args, **kwargs)

        monkeypatch.setattr(cls, name, guards.guarded_async(failing))
    else:
        monkeypatch.setattr(cls, name, guards.guarded(fault))


NOT_CALLED_HERE = {
    *(f"RunObserver.{name}" for name in ("_said", "_said_to_tool", "on_chain_error")),
    *(f"RunObserver.{name}" for name in ("on_llm_start", "on_llm_error")),
    *(f"RunObserver.on_retriever_{name}" for name in ("start", "end", "error")),
    *("RunObserver.on_stream_event", "RunObserver.on_tool_error"),
    *("RunObserver.end_runs", "Health.note", "LangChainInstrumentor.start"),
    *("Installation._load_psycopg", "Installation.application_stopped", "Installation.exit"),
    "LangChainInstrumentor._observe",
    *("Serving.end", "Serving.refresh", "StockInstrumentations._hand_over"),
    *("Serving.stop", "MetricsEndpoint.with_ours"),  # at the end; a page of the application's own
    *("ProviderHeaders._patch", "ProviderHeaders.is_for_a_provider"),  # no provider is called here
    *("ProviderHeaders.is_trusted", "Layer._is_trusted"),  # everybody is trusted here
    *("AsgiInstrumentor._patch", "Encoder.encode_spans", "RedactingSpanProcessor._cleaned"),
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

    monkeypatch.setattr(Exchange, "_finish", guards.guarded(raising))
    with measuring() as measured:
        assert answers(measured) == bare
        assert measured.page().sum("otel_coach_errors_total", error_type="LookupError") >= 9
    assert caplog.text.count("was swallowed") == 1


def test_at_the_recursion_limit_a_hook_is_harmless_and_counted_later(measured):
    class Host:
        recorder = measured.installation.providers.recorder

        @guarded
        def hook(self):
            return deep(self)

    def deep(host):
        return deep(host)

    def to_the_limit(host):
        try:
            to_the_limit(host)
        except RecursionError:
            return host.hook()
        return None

    assert to_the_limit(Host()) is None
    assert measured.page().sum("otel_coach_errors_total", error_type="RuntimeError") >= 1


@pytest.mark.parametrize(
    "target",
    [
        "otel_coach.recorder.Recorder.record",
        "otel_coach.recorder.Recorder.later",
        "otel_coach.aggregation.Aggregation.add",
        "otel_coach.budgets.Budgets.bounded",
        "otel_coach.budgets.Budgets.together",
        "otel_coach.redaction.Redaction.applied",
        "otel_coach.instrumentors.asgi.exchange.find_route",
        "otel_coach.instrumentors.asgi.routes.Routes.find",
        "otel_coach.instrumentors.asgi.server_span.span_facts",
        "otel_coach.instrumentors.asgi.exchange.Exchange._note_start",
        "otel_coach.instrumentors.langchain.llm.LlmRun.token_came",
        "otel_coach.instrumentors.langchain.runs.Run.start_span",
        "otel_coach.instrumentors.langchain.observer.response_attributes",
        "otel_coach.spans.TracerAtOnce.start_span",
        "otel_coach.spans.SpanContext",
        "otel_coach.spans.SpanAtOnce.end",
        "opentelemetry.sdk.metrics.Counter.add",
        "opentelemetry.propagate.extract",
        "otel_coach.pricing.PriceList.cost",
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


def test_a_callback_of_a_strange_version_changes_no_answer(measured):
    observer = RunObserver(measured.installation.providers.recorder, None, None)
    observer.on_llm_end(object(), object())
    observer.on_chat_model_start(7, None, "messages")
    observer.on_tool_start(["no", "manager"], None, None)
    observer.note(object(), ("token",), {"chunk": "no chunk"})
    assert measured.page().sum("otel_coach_errors_total") == 4
