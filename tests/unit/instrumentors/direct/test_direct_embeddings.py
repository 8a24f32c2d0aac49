"""Embeddings by the openai package, alone and below LangChain."""

import asyncio
from enum import Enum

from langchain_openai import OpenAIEmbeddings

from otel_coach.testing import measuring
from tests.support.agents import CALLS


def test_embeddings_by_the_package_are_calls_of_an_embedding_model(provider, clients):
    with measuring() as measured:
        clients["openai"].embeddings.create(
            model="text-embedding-3-small", input=["one two", "three"]
        )
        page = measured.page()
        assert page.sum("agent_embedding_requests_total", status="ok") == 1
        (entry,) = provider.ledger
        tokens = page.sum("agent_llm_tokens_total", mode="embedding")
        assert tokens == entry.prompt_tokens == 3
        assert page.sum(CALLS) == 0
        (span,) = measured.spans
        assert span.name == "embeddings text-embedding-3-small"


def test_embeddings_below_langchain_are_that_call_with_the_tokens_of_the_answer(provider):
    model = OpenAIEmbeddings(
        model="text-embedding-3-small",
        api_key="k",
        base_url=provider.base_url,
        check_embedding_ctx_length=False,
    )
    with measuring() as measured:
        model.embed_documents(["one two", "three"])
        asyncio.run(model.aembed_query("four"))
        page = measured.page()
        # An older langchain-openai sends a request for each text; a call of it is one all the same.
        assert page.sum("agent_embedding_requests_total", status="ok") == 2 <= len(provider.ledger)
        tokens = page.sum("agent_llm_tokens_total", mode="embedding")
        assert tokens == sum(entry.prompt_tokens for entry in provider.ledger) == 4
        assert page.sum("agent_llm_unmeasured_total", error_type="no_usage") == 0
        assert len(measured.spans) == 2


class Name(str, Enum):  # noqa: UP042 - as FastAPI's tutorial has it
    CHAT = "gpt-4o-mini"
    EMBEDDING = "text-embedding-3-small"


def test_a_models_name_given_as_a_str_enum_is_its_value(provider, clients):
    client = clients["openai"]
    with measuring() as measured:
        client.chat.completions.create(
            model=Name.CHAT, messages=[{"role": "user", "content": "hi"}]
        )
        client.embeddings.create(model=Name.EMBEDDING, input="hi")
        page = measured.page()
        asked = ["gpt-4o-mini", "text-embedding-3-small"]
        assert [entry.model for entry in provider.ledger] == asked
        assert page.sum(CALLS, model="gpt-4o-mini") == page.sum(CALLS) == 1
        assert page.sum("agent_embedding_requests_total", model="text-embedding-3-small") == 1
        assert [span.name for span in measured.spans] == [
            "chat gpt-4o-mini",
            "embeddings text-embedding-3-small",
        ]
