"""What is raised where it must not stop the rest: in undo functions, patches, plug-ins, pages."""

import asyncio
import contextvars
import logging
import signal
import weakref
from functools import wraps
from types import SimpleNamespace

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from otel_coach.core.guard import uncounted
from otel_coach.core.patching import undo_all
from otel_coach.core.stop_rule import OnDemandPatches
from otel_coach.instrumentors.asgi.middleware import Middleware
from otel_coach.metrics.recorder import Recorder
from otel_coach.prometheus.http.asgi_endpoint import MetricsEndpoint
from otel_coach.prometheus.http.shared_renders import Renders
from otel_coach.sdk.exporters import OneLineAMinute, _senders, _Signal
from tests.support.faults import never


@pytest.fixture
def recorder():
    made = Recorder(NoOpMeterProvider().get_meter("test"))
    yield made
    made.close()


def fails():
    raise LookupError("injected")


def test_all_undo_functions_are_called_though_one_raises():
    called = []
    with pytest.raises(LookupError):
        undo_all([lambda: called.append(1), fails, lambda: called.append(2)])
    assert called == [1, 2]


def test_a_fault_of_one_patch_is_counted_and_keeps_no_other_and_no_code_of_the_host():
    on_demand, patched = OnDemandPatches(), []

    def patches(name):
        def begin():
            if name == "broken":
                fails()
            patched.append(name)
            yield lambda: patched.remove(name)

        return begin

    undo = [on_demand.add(patches(name)) for name in ("a", "broken", "b")]
    before = len(uncounted)
    on_demand.apply()
    assert sorted(patched) == ["a", "b"]
    assert [type(fault) for fault in list(uncounted)[before:]] == [LookupError]
    while len(uncounted) > before:
        uncounted.pop()
    undo_all(undo)
    assert patched == []


def test_a_fault_in_making_the_page_is_answered_with_500_and_counted(recorder):
    class Broken:
        def render(self, _accept, _own=None):
            fails()

    endpoint = MetricsEndpoint(Renders(Broken(), never), "/metrics", recorder)
    before, sent = recorder.measurements, []

    async def main():
        async def receive():
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
        await endpoint(scope, receive, send)

    asyncio.run(main())
    assert [message.get("status", message.get("body")) for message in sent] == [
        500,
        b"otel-coach: the page failed; the service's log, or otel_coach_errors_total, has more\n",
    ]
    assert recorder.measurements == before + 1


@pytest.mark.parametrize("trusts", [None, lambda _: False])
def test_a_request_that_is_closed_in_another_context_raises_nothing(recorder, trusts):
    class Parked:
        def __await__(self):
            yield

    async def original(_app, _scope, _receive, _send):
        await Parked()

    class App:
        routes = ()

    middleware = Middleware(
        recorder=recorder, tracer=None, credential_headers=frozenset(), trusts=trusts
    )
    scope = {"type": "http", "path": "/", "method": "GET", "headers": [], "query_string": b""}
    before = recorder.measurements
    coroutine = middleware.around(original)(App(), scope, None, None)
    contextvars.copy_context().run(coroutine.send, None)
    contextvars.copy_context().run(coroutine.close)
    recorder.flush_all()
    assert not [one for one in recorder._queue if one[0].name == "otel_coach.errors"]
    assert recorder.measurements > before  # the request itself


def by_signal(*_args, **_kwargs):
    """Raises what a signal handler of the application's raises, as a time limit does."""
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000):
        pass


class HostsError(Exception):
    pass


@pytest.fixture
def _hosts_handler():
    def handler(*_):
        raise HostsError

    before = signal.signal(signal.SIGINT, handler)
    yield
    signal.signal(signal.SIGINT, before)


def plug_in(monkeypatch, made):
    found = SimpleNamespace(load=lambda: made)
    monkeypatch.setattr("otel_coach.sdk.exporters.entry_points", lambda **_: [found])
    monkeypatch.setattr("otel_coach.sdk.exporters.own_exporter", lambda cls: cls)
    return _Signal("traces", "OTEL_TRACES_EXPORTER", "OTEL_BSP_*", lambda exporter, _: exporter())


def test_what_an_exporter_raises_is_logged_without_its_text(monkeypatch, caplog):
    def broken():
        raise ValueError("http://user:pa/ss@collector?api_key=secret")

    kind = plug_in(monkeypatch, broken)
    with caplog.at_level(logging.ERROR):
        assert not list(_senders(kind, ["mine"], "http/protobuf", OneLineAMinute(), None))
    (line,) = caplog.messages
    assert "the exporter mine did not start (ValueError in test_undone_and_raised.py:" in line
    assert "secret" not in line
    assert "pa/ss" not in line


@pytest.mark.usefixtures("_hosts_handler")
def test_what_a_signal_handler_raises_in_an_exporter_is_the_hosts(monkeypatch):
    kind = plug_in(monkeypatch, by_signal)
    with pytest.raises(HostsError):
        list(_senders(kind, ["mine"], "http/protobuf", OneLineAMinute(), None))


def test_a_forked_child_waits_for_nothing_that_its_parent_announced(recorder):
    recorder.about_to_record.add(object())
    recorder._forked()
    assert not recorder.about_to_record


def test_an_embedding_class_that_cannot_be_read_keeps_no_other(recorder):
    from otel_coach.instrumentors.langchain.embeddings import EmbeddingPatches

    class Called:
        def __call__(self, *_):
            return [1.0]

    called = Called()
    called.__name__ = "embed_query"

    class Base:
        def embed_documents(self, texts):
            raise NotImplementedError

        def embed_query(self, text):
            raise NotImplementedError

        async def aembed_documents(self, texts):
            raise NotImplementedError

        async def aembed_query(self, text):
            raise NotImplementedError

    class Odd(Base):
        @wraps(called)
        def embed_query(self, text):
            return called(text)

    class Usual(Base):
        def embed_query(self, text):
            return [1.0]

    observer = SimpleNamespace(
        recorder=recorder, overrides=weakref.WeakSet(), started=lambda *_: None
    )
    before = recorder.measurements
    patches = EmbeddingPatches(Base, observer)
    assert hasattr(Usual.embed_query, "__wrapped__")
    assert Odd().embed_query("x") == [1.0]
    patches.undo()
    assert not hasattr(Usual.embed_query, "__wrapped__")
    assert recorder.measurements == before
