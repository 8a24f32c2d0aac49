"""The models of the service under test, and its retriever."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from verification.oracle import witness

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever

PROVIDER = os.environ["OPENAI_BASE_URL"]
CLOSED = os.environ["ORACLE_CLOSED_URL"]  # connections there are refused
ENDPOINTS = {"ok": (PROVIDER, 30), "connection_refused": (CLOSED, 5), "time_out": (PROVIDER, 0.8)}
"""By ending, the URL that a call is sent to, and its timeout in seconds."""


def open_model(base_url: str, **options: Any) -> ChatOpenAI:
    """Returns a chat model, which the witness hears."""
    return ChatOpenAI(
        model=options.pop("model", "gpt-3.5-turbo"),
        api_key="local",  # pyright: ignore[reportArgumentType]
        base_url=base_url,
        stream_usage=True,
        max_retries=0,
        **witness.clients(),
        **options,
    )


def open_embeddings(base_url: str, timeout: float, *, heard: bool = True) -> OpenAIEmbeddings:
    """Returns an embedding model, which the witness hears unless `heard` is false."""
    return OpenAIEmbeddings(
        model="text-embedding-3-small",
        api_key="local",  # pyright: ignore[reportArgumentType]
        base_url=base_url,
        timeout=timeout,
        max_retries=0,
        check_embedding_ctx_length=False,  # which would ask the network for a tokenizer
        **(witness.clients() if heard else {}),
    )


def retriever(embeddings: Embeddings) -> BaseRetriever:
    """Returns a retriever over one document, whose vector is there already."""
    store = InMemoryVectorStore(embeddings)
    store.store["one"] = {"id": "one", "vector": [1.0, 1.0], "text": "easy runs", "metadata": {}}
    return store.as_retriever()
