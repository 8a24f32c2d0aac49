"""How much is done for a request, a chunk, a call: counted, not timed, so that it cannot creep.

Each number has its reason. Who changes one says why in the commit.
"""

import tracemalloc
from contextvars import Context
from pathlib import Path

import pytest
from langchain_core.retrievers import BaseRetriever
from opentelemetry.sdk.metrics._internal.measurement_consumer import SynchronousMeasurementConsumer
from opentelemetry.sdk.trace import ReadableSpan

import otel_coach
from tests.support.counting import calls_of_ours
from tests.support.embeddings import Cached, Plain
from tests.support.work import send, service

PACKAGE = str(Path(otel_coach.__file__).parent)


@pytest.fixture
def app():
    return service()


@pytest.fixture
def sdk_calls(measured, app, monkeypatch):
    """How many measurements and spans the SDK gets for requests of a path."""
    counted = {"measurements": 0, "spans": 0}
    consume, made = SynchronousMeasurementConsumer.consume_measurement, ReadableSpan.__init__

    def consuming(*args):
        counted["measurements"] += 1
        return consume(*args)

    def making(*args, **kwargs):
        counted["spans"] += 1
        return made(*args, **kwargs)

    monkeypatch.setattr(SynchronousMeasurementConsumer, "consume_measurement", consuming)
    monkeypatch.setattr(ReadableSpan, "__init__", making)

    def of(path, times=1):
        send(app, path)  # what is made once for each series
        measured.spans  # noqa: B018 - it settles
        counted.update(measurements=0, spans=0)
        send(app, path, times)
        measured.spans  # noqa: B018
        return dict(counted)

    return of


def test_a_hundred_requests_are_a_few_measurements_and_a_span_each(sdk_calls):
    # One for each bucket that http_server_request_duration_seconds fell into.
    found = sdk_calls("/health", 100)
    assert found["spans"] == 100
    assert 1 <= found["measurements"] <= 6


def test_a_chunk_is_nothing_to_the_sdk(sdk_calls):
    few, many = sdk_calls("/stream/10"), sdk_calls("/stream/1000")
    # Durations of the request as such, as AI work, and of the call; first chunk, first token; then
    # each counter once: requests, chunks, aborts, two kinds of unmeasured.
    assert few == many == {"measurements": 5 + 6, "spans": 2}


def test_a_hundred_calls_are_a_few_measurements_and_two_spans_each(sdk_calls):
    # Three durations, by bucket; requests and two kinds of unmeasured; handed on together, or
    # each quarter of a second where that takes longer.
    found = sdk_calls("/ask", 100)
    assert found["spans"] == 200
    assert 3 + 3 <= found["measurements"] <= 60


def our_calls(measured, app, path):
    send(app, path, 3)
    measured.spans  # noqa: B018 - it settles: what others left is not counted with this one
    with calls_of_ours() as counted:
        send(app, path)
    return counted[0]


def test_a_chunk_that_no_model_speaks_costs_few_functions(measured, app):
    # Exchange.send.
    more = our_calls(measured, app, "/plain/1100") - our_calls(measured, app, "/plain/100")
    assert round(more / 1000) == 1


def test_a_chunk_that_a_model_speaks_costs_few_functions_too(measured, app):
    # That one; on_llm_new_token, note, chunk_came.
    more = our_calls(measured, app, "/stream/1100") - our_calls(measured, app, "/stream/100")
    assert round(more / 1000) == 4


def test_a_request_costs_few_functions(measured, app):
    # 29 with a span, and the alarm that it may set; what is made of its facts follows later.
    assert our_calls(measured, app, "/health") <= 30


def test_a_chunk_leaves_nothing_in_memory(measured, app):
    def kept(path):
        tracemalloc.start()
        try:
            send(app, path)
            measured.spans  # noqa: B018 - it settles
            ours = tracemalloc.Filter(inclusive=True, filename_pattern=f"{PACKAGE}/*")
            found = tracemalloc.take_snapshot().filter_traces([ours])
            return sum(one.size for one in found.statistics("filename"))
        finally:
            tracemalloc.stop()

    for path in ("/stream/10", "/stream/2000"):
        send(app, path)
    measured.spans  # noqa: B018 - it settles
    # Less than a byte for each. A leak shows each time, work of another part that falls into one
    # of the two only once.
    assert any(kept("/stream/2000") - kept("/stream/10") < 2000 for _ in range(3))


def our_functions(measured, work):
    for _ in range(3):
        Context().run(work)
    found: list[int] = []
    for _ in range(5):
        measured.spans  # noqa: B018 - it settles
        outside = Context()  # what other tests left in this one's context takes functions too
        with calls_of_ours() as counted:
            outside.run(work)
        found.append(counted[0])
    return min(found)  # on a busy machine, a flush may be due in the middle


def test_a_call_of_an_embedding_model_costs_few_functions(measured):
    # Its start with its span, its end, and the alarm that it may set.
    model = Plain()
    once = our_functions(measured, lambda: model.embed_documents(["one"]))
    assert once <= 36
    # A method that calls another one of its object: the check that this is no call of its own.
    assert our_functions(measured, lambda: model.embed_query("one")) - once <= 5
    # A wrapper: the same check, for its own method.
    cache = Cached(model)
    assert our_functions(measured, lambda: cache.embed_query("one")) - once <= 10


def test_a_retrieval_costs_few_functions(measured):
    class Found(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return []

    retriever = Found()
    assert our_functions(measured, lambda: retriever.invoke("easy")) <= 48
