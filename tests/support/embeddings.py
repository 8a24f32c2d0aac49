"""Embedding models: OpenAI's, and such as applications write."""

import asyncio

from langchain_core.embeddings import Embeddings
from langchain_openai import OpenAIEmbeddings

REQUESTS = "agent_embedding_requests_total"
MODEL = "text-embedding-3-small"


def opened(provider, cls=OpenAIEmbeddings, **options):
    return cls(
        model=MODEL,
        api_key="k",
        base_url=provider.base_url,
        max_retries=0,
        check_embedding_ctx_length=False,  # which would ask the network for a tokenizer
        **options,
    )


def counted(measured):
    """How many calls there were, by status and error type."""
    return {
        (labels["status"], labels["error_type"]): value
        for labels, value in measured.page().samples(REQUESTS)
    }


class Plain(Embeddings):
    """Only what a class must have, with a note of what was asked of the provider."""

    def __init__(self, model="plain"):
        self.model = model
        self.asked = []

    def embed_documents(self, texts):
        return self.asked_of_the_provider(texts)

    def embed_query(self, text):
        return self.embed_documents([text])[0]

    def asked_of_the_provider(self, texts):
        self.asked.append(len(texts))
        return [[float(len(text))] for text in texts]


class Cached(Embeddings):
    """As langchain's CacheBackedEmbeddings: it holds the model that it asks."""

    def __init__(self, underlying_embeddings):
        self.underlying_embeddings = underlying_embeddings
        self.kept = {}

    def embed_documents(self, texts):
        missing = [text for text in texts if text not in self.kept]
        if missing:
            vectors = self.underlying_embeddings.embed_documents(missing)
            self.kept.update(zip(missing, vectors, strict=True))
        return [self.kept[text] for text in texts]

    def embed_query(self, text):
        return self.underlying_embeddings.embed_query(text)

    async def aembed_documents(self, texts):
        missing = [text for text in texts if text not in self.kept]
        if missing:
            vectors = await self.underlying_embeddings.aembed_documents(missing)
            self.kept.update(zip(missing, vectors, strict=True))
        return [self.kept[text] for text in texts]


WAYS = {
    "embed_query": lambda e, text: e.embed_query(text),
    "embed_documents": lambda e, text: e.embed_documents([text]),
    "aembed_query": lambda e, text: asyncio.run(e.aembed_query(text)),
    "aembed_documents": lambda e, text: asyncio.run(e.aembed_documents([text])),
}
