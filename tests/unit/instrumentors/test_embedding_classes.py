"""Which classes and methods of LangChain's embedding models are measured, and how they are left."""

import asyncio
import contextvars
import gc
import weakref
from typing import ClassVar

import pytest
from langchain_core.embeddings import Embeddings
from langchain_openai import OpenAIEmbeddings
from openai import InternalServerError
from opentelemetry.propagate import inject

from otel_coach.instrumentors.langchain import LangChainInstrumentor
from otel_coach.instrumentors.langchain.trials import EMBEDDING_METHODS
from otel_coach.testing import measuring
from tests.support.embeddings import MODEL, REQUESTS, WAYS, Cached, Plain, counted, opened

# One inside the other


@pytest.mark.parametrize("way", ["embed_documents", "aembed_documents"])
def test_a_cache_that_holds_its_model_counts_what_it_asks_it(measured, way):
    inner = Plain()
    cache = Cached(inner)
    for _ in range(3):
        WAYS[way](cache, "one")
    assert inner.asked == [1]
    assert counted(measured) == {("ok", ""): 1}
    assert [span.name for span in measured.spans] == ["embeddings plain"]


def test_a_chain_of_fallbacks_counts_each_model_it_asks(measured, provider, embeddings):
    class Fallback(Embeddings):
        def __init__(self, *models):
            self.models = models

        def embed_documents(self, texts):
            for model in self.models:
                try:
                    return model.embed_documents(texts)
                except InternalServerError:
                    continue
            raise AssertionError

        def embed_query(self, text):
            return self.embed_documents([text])[0]

    inner = Plain()
    assert Fallback(embeddings, inner).embed_query("[fail:500]") == [10.0]
    found = {
        (labels["model"], labels["status"]): value
        for labels, value in measured.page().samples(REQUESTS)
    }
    assert found == {(MODEL, "error"): 1, ("plain", "ok"): 1}


def test_a_wrapper_that_hides_its_model_is_no_call_either(measured):
    inner = Plain()

    class Closure(Embeddings):
        model = "closure"

        def embed_documents(self, texts):
            return inner.embed_documents(texts)

        def embed_query(self, text):
            return inner.embed_query(text)

    Closure().embed_query("one")
    assert measured.page().samples(REQUESTS) == [
        ({"model": "plain", "status": "ok", "error_type": ""}, 1)
    ]
    inside, outside = measured.spans
    assert inside.parent.span_id == outside.context.span_id


def test_a_cache_over_its_own_base_class_counts_what_it_does_not_keep(measured, provider):
    class Keeping(OpenAIEmbeddings):
        _kept: ClassVar = {}

        def embed_documents(self, texts, **options):
            key = tuple(texts)
            if key not in self._kept:
                self._kept[key] = super().embed_documents(texts, **options)
            return self._kept[key]

    keeping = opened(provider, Keeping)
    for _ in range(3):
        keeping.embed_documents(["one"])
        keeping.embed_query("one")  # by way of embed_documents
    assert len(provider.ledger) == 1
    assert counted(measured) == {("ok", ""): 1}


def test_mixins_count_once_and_are_left_as_they_are():
    class Logging:
        def embed_documents(self, texts):
            return super().embed_documents(texts)

    class Logged(Logging, Plain):
        pass

    class Doing:
        def embed_documents(self, texts):
            return [[1.0] for _ in texts]

        def embed_query(self, text):
            return [1.0]

    class Done(Doing, Embeddings):
        model = "done"

    before = dict(vars(Doing))
    with measuring() as measured:
        Logged().embed_documents(["one"])
        Done().embed_query("one")
        found = {labels["model"]: value for labels, value in measured.page().samples(REQUESTS)}
        assert found == {"plain": 1, "done": 1}
        assert dict(vars(Doing)) == before
    assert "embed_query" not in vars(Done)


# Classes, before and after


def methods_of(cls):
    return {name: vars(cls).get(name) for name in (*EMBEDDING_METHODS, "__init_subclass__")}


def test_every_class_is_as_it_was_whenever_it_was_defined():
    before = {cls: methods_of(cls) for cls in (Embeddings, OpenAIEmbeddings, Plain)}
    with measuring() as measured:

        class Later(Plain):
            def embed_query(self, text):
                return [1.0]

        assert vars(Plain)["embed_query"] is not before[Plain]["embed_query"]
        Plain().embed_query("one")
        Later("later").embed_query("one")
        found = {labels["model"]: value for labels, value in measured.page().samples(REQUESTS)}
        assert found == {"plain": 1, "later": 1}
        embed = Plain().embed_query  # kept by the application
    assert {cls: methods_of(cls) for cls in before} == before
    assert not hasattr(vars(Later)["embed_query"], "__wrapped__")
    assert embed("one") == [3.0]
    with measuring() as measured:  # and once more
        Later("later").embed_query("one")
        assert measured.page().sum(REQUESTS) == 1
    assert {cls: methods_of(cls) for cls in before} == before


def test_a_class_that_is_gone_is_not_kept(measured):
    def made():
        class Gone(Plain):
            def embed_query(self, text):
                return [1.0]

        Gone().embed_query("one")
        return weakref.ref(Gone)

    gone = made()
    measured.spans  # noqa: B018 - it settles
    gc.collect()
    assert gone() is None


def test_a_classs_own_hook_and_its_arguments_stay(measured):
    seen = []

    class Registered(Plain):
        def __init_subclass__(cls, *, label, **kwargs):
            super().__init_subclass__(**kwargs)
            seen.append((cls.__name__, label))

    class One(Registered, label="one"):
        pass

    assert seen == [("One", "one")]
    with pytest.raises(TypeError):

        class Wrong(Plain, no_such_argument=1):
            pass


def test_abstract_classes_stay_abstract(measured):
    class Half(Embeddings):
        def embed_query(self, text):
            return [1.0]

    with pytest.raises(TypeError, match="abstract"):
        Half()


def test_a_class_that_hides_its_definition_is_found_when_the_service_starts(measured):
    class Hiding(Plain):
        def __init_subclass__(cls, **kwargs):
            pass

    class Hidden(Hiding):
        def embed_query(self, text):
            return [1.0]

    Hidden("hidden").embed_query("one")
    assert measured.page().sum(REQUESTS) == 0
    LangChainInstrumentor().start(lambda *_: None)  # one object for the process
    Hidden("hidden").embed_query("one")
    assert measured.page().sum(REQUESTS) == 1


@pytest.mark.parametrize(
    ("target", "faults"),
    [
        # Two of the ways call another method, which then has no call around it.
        ("otel_coach.instrumentors.langchain.embeddings._provider", 6),
        ("otel_coach.instrumentors.genai.runs.Run.start_span", 6),
        ("otel_coach.instrumentors.genai.run_recorder.RunRecorder.close", 4),
        ("otel_coach.instrumentors.genai.embedding_call.EmbeddingCall.record", 4),
    ],
)
def test_a_fault_of_ours_changes_no_answer(monkeypatch, target, faults):
    def failing(*_, **__):
        raise RuntimeError

    with measuring() as measured:
        monkeypatch.setattr(target, failing)
        for way in WAYS.values():
            assert way(Plain(), "one") in ([3.0], [[3.0]])
        assert measured.page().sum("otel_coach_errors_total", error_type="RuntimeError") == faults
        monkeypatch.undo()
        Plain().embed_query("one")  # what failed leaves nothing behind
        assert measured.page().sum(REQUESTS, status="ok") == 1


def test_an_open_call_is_ended_once_when_the_service_ends(measured):
    class Ending(Plain):
        def embed_documents(self, texts):
            LangChainInstrumentor().end_runs(lambda _: True)
            return self.asked_of_the_provider(texts)

    Ending().embed_documents(["one"])
    assert counted(measured) == {("aborted", ""): 1}


def test_a_provider_is_sent_no_trace_context(measured):
    class Sending(Plain):
        def embed_documents(self, texts):
            headers = {}
            inject(headers)
            self.headers = headers
            return self.asked_of_the_provider(texts)

    tracer = measured.installation.providers.tracer_provider.get_tracer("the application")
    with tracer.start_as_current_span("outside"):
        model = Sending()
        model.embed_query("one")
    assert model.headers == {}


def test_without_spans_a_call_counts_once_too(measured, monkeypatch):
    monkeypatch.setattr("otel_coach.instrumentors.genai.runs.is_idle", lambda _: True)
    for way in WAYS.values():
        way(Plain(), "one")
    assert counted(measured) == {("ok", ""): 4}
    assert not measured.spans


def test_texts_that_a_model_embeds_at_the_same_time_are_one_call(measured):
    class Gathering(Plain):
        async def aembed_query(self, text):
            await asyncio.sleep(0)
            return self.asked_of_the_provider([text])[0]

        async def aembed_documents(self, texts):
            return await asyncio.gather(*(self.aembed_query(text) for text in texts))

    model = Gathering()
    asyncio.run(model.aembed_documents(["one", "two", "three"]))
    assert model.asked == [1, 1, 1]
    assert counted(measured) == {("ok", ""): 1}


def test_a_coroutine_that_is_dropped_is_aborted(measured, caplog):
    class Never:
        def __await__(self):
            yield

    class Dropped(Plain):
        async def aembed_query(self, text):
            await Never()

    coroutine = Dropped().aembed_query("one")
    coroutine.send(None)
    contextvars.Context().run(coroutine.close)
    assert counted(measured) == {("aborted", ""): 1}
    assert not [one for one in caplog.records if one.name.startswith("opentelemetry")]
