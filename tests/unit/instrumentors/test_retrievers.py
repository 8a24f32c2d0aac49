"""Runs of LangChain's retrievers: counted by name, with spans around what they ask."""

import asyncio
import gc
import json

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.errors import GraphInterrupt
from langgraph.graph import START, StateGraph

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.agents import State, question
from tests.support.conservation import started
from tests.support.embeddings import MODEL, REQUESTS
from tests.support.waiting import eventually

RETRIEVALS = "agent_retrieval_requests_total"
LATENCY = "agent_retrieval_latency_seconds_count"


class Notes(BaseRetriever):
    """Finds what it is told to find, or raises it."""

    found: object = ()

    def _get_relevant_documents(self, query, *, run_manager):
        if isinstance(self.found, BaseException):
            raise self.found
        return [Document(text, id=str(place)) for place, text in enumerate(self.found)]


class Waiting(BaseRetriever):
    """Never answers."""

    def _get_relevant_documents(self, query, *, run_manager):
        raise NotImplementedError

    async def _aget_relevant_documents(self, query, *, run_manager):
        await asyncio.sleep(30)


@pytest.fixture
def retriever(embeddings):
    store = InMemoryVectorStore.from_texts(["easy runs", "long run on Sunday"], embeddings)
    return store.as_retriever(search_kwargs={"k": 1})


WAYS = {
    "invoke": lambda r: r.invoke("easy"),
    "ainvoke": lambda r: asyncio.run(r.ainvoke("easy")),
    "batch": lambda r: r.batch(["easy", "easy"]),
    "abatch": lambda r: asyncio.run(r.abatch(["easy", "easy"])),
    "chain": lambda r: (r | RunnableLambda(len)).invoke("easy"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_run_is_counted_and_the_embedding_is_inside(measured, provider, retriever, way):
    measured.forget_spans()
    provider.reset()
    WAYS[way](retriever)
    runs = len(provider.ledger)
    assert runs == (2 if "batch" in way else 1)
    page = measured.page()
    labels = {"tool_name": "VectorStoreRetriever", "status": "ok", "error_type": ""}
    assert page.samples(RETRIEVALS) == [(labels, runs)]
    assert page.sum(LATENCY, tool_name="VectorStoreRetriever", status="ok") == runs
    assert page.sum(REQUESTS) == runs + 1  # and that of the documents
    by_name = {}
    for span in measured.spans:
        by_name.setdefault(span.name, []).append(span)
    retrievals, asked = by_name["retrieval VectorStoreRetriever"], by_name[f"embeddings {MODEL}"]
    assert len(measured.spans) == 2 * runs
    ids = {span.context.span_id for span in retrievals}
    assert {span.parent.span_id for span in asked} == ids
    for span in retrievals:
        assert span.kind.name == "INTERNAL"
        assert dict(span.attributes) == {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": "VectorStoreRetriever",
        }


def test_a_retriever_has_the_name_that_it_is_given(measured):
    Notes(name="diary").invoke("easy")
    Notes().invoke("easy", config={"run_name": "this once"})
    names = [labels["tool_name"] for labels, _ in measured.page().samples(RETRIEVALS)]
    assert sorted(names) == ["diary", "this once"]


def test_inside_a_graph_the_retrieval_is_a_part_of_the_agent(measured, model, retriever):
    measured.forget_spans()

    async def node(state):
        documents = await retriever.ainvoke("easy")
        return {"messages": [await model.ainvoke(documents[0].page_content)]}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    asyncio.run(graph.compile().ainvoke(question("easy?")))
    spans = {span.name: span for span in measured.spans}
    assert len(spans) == len(measured.spans) == 4
    agent = spans["invoke_agent LangGraph"].context.span_id
    retrieval = spans["retrieval VectorStoreRetriever"]
    assert spans["chat gpt-3.5-turbo"].parent.span_id == agent
    assert retrieval.parent.span_id == agent
    assert spans[f"embeddings {MODEL}"].parent.span_id == retrieval.context.span_id


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_retriever_that_raises_is_an_error(measured, way):
    with pytest.raises(LookupError):
        WAYS[way](Notes(found=LookupError("what a user asked")))
    labels = {"tool_name": "Notes", "status": "error", "error_type": "LookupError"}
    assert measured.page().samples(RETRIEVALS) == [(labels, 1)]
    (span,) = measured.spans
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == "LookupError"
    assert not span.events


def test_a_pause_for_a_human_is_no_error(measured):
    with pytest.raises(GraphInterrupt):
        Notes(found=GraphInterrupt(())).invoke("easy")
    started["retrievals"] -= 1  # the run that paused
    assert measured.page().samples(RETRIEVALS) == []
    assert measured.spans[0].attributes["otel_coach.outcome"] == "paused"


def test_a_cancelled_retrieval_is_aborted_at_the_end_of_its_task(measured):
    async def cancelled():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Waiting().ainvoke("easy")

    async def a_task_of_its_own():
        await asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        return measured.page().sum(RETRIEVALS, status="aborted")

    gc.disable()
    try:
        assert asyncio.run(a_task_of_its_own()) == 1
    finally:
        gc.enable()
    (span,) = measured.spans
    assert span.attributes["otel_coach.outcome"] == "aborted"


def test_a_cancelled_vector_search_ends_with_its_thread(measured, retriever):
    async def cancelled():
        task = asyncio.create_task(retriever.ainvoke("[delay:0.3] easy"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    eventually(lambda: measured.page().sum(REQUESTS) == 2)
    assert measured.page().sum(RETRIEVALS, status="aborted") == 1


def test_nothing_of_query_and_documents_is_exported_by_default(measured):
    Notes(found=["what the document says"]).invoke("what the user asks")
    (span,) = measured.spans
    assert "says" not in str(span.to_json())
    assert "asks" not in str(span.to_json())


def test_query_and_documents_are_captured_where_an_operator_asks_for_it():
    settings = Settings(captures_on_spans=True)
    with measuring(settings) as measured:
        Notes(found=["easy runs", "long runs"]).invoke("easy?")
        (span,) = measured.spans
    assert span.attributes["gen_ai.retrieval.query.text"] == "easy?"
    assert json.loads(span.attributes["gen_ai.retrieval.documents"]) == [
        {"id": "0", "content": "easy runs"},
        {"id": "1", "content": "long runs"},
    ]
