"""Calls of embedding models by LangChain, over HTTP to the provider: each counts once."""

import asyncio
import threading

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings
from opentelemetry import context

from otel_coach.core.spans import CURRENT_RUN
from otel_coach.instrumentors.genai.embedding_call import EmbeddingCall
from tests.support.agents import CALLS, TOKENS
from tests.support.embeddings import MODEL, REQUESTS, WAYS, Plain, counted, opened
from tests.support.versions import EMBEDDINGS_TAKE_A_MODEL

LATENCY = "agent_embedding_latency_seconds_count"
UNMEASURED = "agent_llm_unmeasured_total"


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_embedding_is_one_call(measured, provider, embeddings, way):
    answer = WAYS[way](embeddings, "one two")
    assert answer in ([7, 2], [[7, 2]])
    assert [entry.kind for entry in provider.ledger] == ["embeddings"]
    page = measured.page()
    labels = {"model": MODEL, "status": "ok", "error_type": ""}
    assert page.samples(REQUESTS) == [(labels, 1)]
    assert page.sum(LATENCY, model=MODEL, status="ok") == 1
    assert page.sum(CALLS) == 0
    # LangChain passes no usage on; the answer that the openai package got has it.
    (entry,) = provider.ledger
    assert (
        page.sum(TOKENS, model=MODEL, mode="embedding") == page.sum(TOKENS) == entry.prompt_tokens
    )
    cost = entry.prompt_tokens * 0.02 / 1_000_000  # as OpenAI publishes it
    assert page.sum("agent_llm_cost_usd_total", model=MODEL) == pytest.approx(cost, abs=1e-15)
    assert page.sum(UNMEASURED) == 0
    (span,) = measured.spans
    assert (span.name, span.kind.name) == (f"embeddings {MODEL}", "CLIENT")
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": MODEL,
        "gen_ai.usage.input_tokens": entry.prompt_tokens,
    }


def test_the_size_of_the_vectors_is_on_the_span(measured, provider):
    opened(provider, dimensions=256).embed_query("one")
    (span,) = measured.spans
    assert span.attributes["gen_ai.embeddings.dimension.count"] == 256


def test_several_requests_of_one_call_are_one_call(measured, provider, embeddings):
    embeddings.embed_documents(["one", "two three", "four"], chunk_size=1)
    assert len(provider.ledger) == 3
    assert counted(measured) == {("ok", ""): 1}


def test_calls_at_the_same_time_are_calls_of_their_own(measured, provider, embeddings):
    async def several():
        await asyncio.gather(*(embeddings.aembed_query(f"text {n}") for n in range(5)))

    asyncio.run(several())
    assert len(provider.ledger) == 5
    assert counted(measured) == {("ok", ""): 5}
    assert len({span.context.trace_id for span in measured.spans}) == 5


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_call_is_an_error_and_was_not_billed(measured, embeddings, way):
    with pytest.raises(Exception, match="429") as raised:
        WAYS[way](embeddings, "[fail:429]")
    name = type(raised.value).__name__
    assert counted(measured) == {("error", name): 1}
    assert measured.page().sum(UNMEASURED) == 0
    (span,) = measured.spans
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == name


@pytest.mark.parametrize("way", ["aembed_query", "aembed_documents"])
def test_a_cancelled_call_is_aborted(measured, embeddings, way):
    async def cancelled():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                if way == "aembed_query":
                    await embeddings.aembed_query("[delay:3] one")
                else:
                    await embeddings.aembed_documents(["[delay:3] one"])

    asyncio.run(cancelled())
    assert counted(measured) == {("aborted", ""): 1}
    assert measured.page().sum(UNMEASURED, error_type="no_usage") == 1
    (span,) = measured.spans
    assert span.attributes["otel_coach.outcome"] == "aborted"
    assert span.status.status_code.name == "UNSET"


def test_a_cancelled_call_in_an_executor_ends_when_it_ends(measured):
    class Slow(Plain):
        def embed_documents(self, texts):
            done.wait(5)
            return self.asked_of_the_provider(texts)

    done = threading.Event()
    model = Slow()

    async def cancelled():
        task = asyncio.create_task(model.aembed_query("one"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        done.set()

    asyncio.run(cancelled())  # it waits for its executor
    assert model.asked == [1]
    assert counted(measured) == {("ok", ""): 1}


@pytest.mark.parametrize("way", WAYS)
def test_a_class_without_asynchronous_methods_counts_once_each_way(measured, way):
    model = Plain()
    WAYS[way](model, "one")
    assert model.asked == [1]
    assert measured.page().samples(REQUESTS) == [
        ({"model": "plain", "status": "ok", "error_type": ""}, 1)
    ]
    assert len(measured.spans) == 1


def test_a_model_that_asks_nobody_counts_as_a_call_of_no_named_model(measured):
    # As a fake chat model does: what it computes, it computes as the application's model.
    DeterministicFakeEmbedding(size=3).embed_query("one")
    assert measured.page().samples(REQUESTS) == [
        ({"model": "none", "status": "ok", "error_type": ""}, 1)
    ]


# Tokens and cost


def test_what_the_provider_answers_beneath_is_billed(measured):
    class Told(Plain):
        __module__ = "langchain_openai.embeddings.base"
        answers = ()

        def embed_documents(self, texts):
            call = context.get_value(CURRENT_RUN)
            for usage in self.answers:
                call.answered(usage, f"{MODEL}-v1")
            if "fails" in texts:
                raise LookupError
            return self.asked_of_the_provider(texts)

    model = Told(MODEL)
    # By OpenAI's page: 0.02 USD for a million tokens.
    model.answers = [{"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}] * 2
    model.embed_query("one")
    page = measured.page()
    tokens = {"model": MODEL, "mode": "embedding"}
    assert page.samples(TOKENS) == [(tokens, 2_000_000)]
    assert page.sum("agent_llm_cost_usd_total") == pytest.approx(0.04)
    assert page.sum(UNMEASURED) == 0
    (span,) = measured.spans
    assert span.attributes["gen_ai.usage.input_tokens"] == 2_000_000
    assert span.attributes["gen_ai.response.model"] == f"{MODEL}-v1"

    # An answer without usage: the others' tokens were billed, and are not all.
    model.answers = [{"prompt_tokens": 5}, None]
    model.embed_query("one")
    page = measured.page()
    assert page.sum(TOKENS) == 2_000_005
    assert page.sum(UNMEASURED, error_type="no_usage") == 1

    # One that fails after an answer: that answer was billed.
    model.answers = [{"prompt_tokens": 7}]
    with pytest.raises(LookupError):
        model.embed_documents(["fails"])
    page = measured.page()
    assert page.sum(TOKENS) == 2_000_012
    assert page.sum(UNMEASURED) == 1


@pytest.mark.parametrize(
    "block",
    [
        {"prompt_tokens": 8, "total_tokens": 8},  # OpenAI, Mistral
        {"total_tokens": 8},  # Voyage
        {"input_tokens": 8},  # Cohere
        {"prompt_eval_count": 8},  # Ollama
        {"inputTextTokenCount": 8},  # Amazon Titan
        type("Usage", (), {"prompt_tokens": 8})(),  # an object of the openai package
    ],
)
def test_usage_is_read_in_the_providers_forms(block):
    call = EmbeddingCall(None, MODEL)
    call.answered(block)
    assert call.tokens == 8


@pytest.mark.parametrize(
    "block",
    [None, {}, 8, "8", {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": 10**13}],
)
def test_usage_that_is_none_counts_as_missing(block):
    call = EmbeddingCall(None, MODEL)
    call.answered(block)
    assert call.tokens is None


def test_a_model_without_a_price_is_said_to_have_none(measured):
    class Told(Plain):
        def embed_documents(self, texts):
            context.get_value(CURRENT_RUN).answered({"total_tokens": 3})
            return self.asked_of_the_provider(texts)

    Told("nobody-sells-this").embed_query("one")
    page = measured.page()
    assert page.sum(UNMEASURED, model="nobody-sells-this", error_type="no_price") == 1
    assert page.sum(TOKENS, model="nobody-sells-this", mode="embedding") == 3


def test_a_local_server_has_no_price(measured):
    def embed_documents(self, texts):
        context.get_value(CURRENT_RUN).answered({"total_tokens": 3})
        return [[1.0] for _ in texts]

    local = type("Local", (OpenAIEmbeddings,), {"embed_documents": embed_documents})
    local(model=MODEL, api_key="k", base_url="http://localhost:8080/v1").embed_query("one")
    page = measured.page()
    assert page.sum(UNMEASURED, model=MODEL, error_type="no_price") == 1
    assert page.sum("agent_llm_cost_usd_total") == 0


# Names


@pytest.mark.parametrize(
    ("module", "name", "provider"),
    [
        ("langchain_openai.embeddings.base", "OpenAIEmbeddings", "openai"),
        ("langchain_openai.embeddings.azure", "AzureOpenAIEmbeddings", "azure.ai.openai"),
        ("langchain_google_genai.embeddings", "GoogleGenerativeAIEmbeddings", "gcp.gemini"),
        ("langchain_aws.embeddings.bedrock", "BedrockEmbeddings", "aws.bedrock"),
        ("langchain_community.embeddings.jina", "JinaEmbeddings", "jina"),
        ("app.models", "Mine", None),
    ],
)
def test_the_provider_is_the_integration_that_the_class_comes_from(
    measured, module, name, provider
):
    integration = type(name, (Plain,), {"__module__": module})
    mine = type("Mine", (integration,), {"__module__": "app.models"})
    mine().embed_query("one")
    (span,) = measured.spans
    assert span.attributes.get("gen_ai.provider.name") == provider


def test_azures_class_inherits_its_methods_and_is_azures(measured, provider):
    azure = AzureOpenAIEmbeddings(
        model=MODEL,
        api_key="k",
        azure_endpoint=provider.url,
        api_version="1",
        max_retries=0,
        check_embedding_ctx_length=False,
    )
    with pytest.raises(Exception, match="404"):  # the provider is not Azure
        azure.embed_query("one")
    (span,) = measured.spans
    assert span.attributes["gen_ai.provider.name"] == "azure.ai.openai"


@pytest.mark.parametrize("attribute", ["model", "model_name", "model_id", "repo_id"])
def test_the_model_is_found_where_integrations_keep_it(measured, attribute):
    model = Plain(model=None)
    setattr(model, attribute, "some-model")
    model.embed_query("one")
    assert measured.page().sum(REQUESTS, model="some-model") == 1


@pytest.mark.skipif(not EMBEDDINGS_TAKE_A_MODEL, reason="this langchain-openai takes no model")
def test_a_model_that_one_call_asks_for_is_that_calls(measured, embeddings):
    embeddings.embed_query("one", model="text-embedding-3-large")
    assert measured.page().sum(REQUESTS, model="text-embedding-3-large") == 1


def test_the_address_of_a_model_is_no_label(measured):
    Plain("http://10.0.0.1:8080/embed").embed_query("one")
    assert measured.page().sum(REQUESTS, model="other") == 1
    (span,) = measured.spans
    assert span.name == "embeddings other"
    assert "10.0.0.1" not in span.to_json()
