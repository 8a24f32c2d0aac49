"""Imports are late: `make test-direct-lowest` has no LangChain."""

import pytest


@pytest.fixture
def model(provider):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model="gpt-3.5-turbo",
        api_key="k",
        base_url=provider.base_url,
        stream_usage=True,
        max_retries=0,
        timeout=10,
    )


@pytest.fixture
def embeddings(provider):
    from tests.support.embeddings import opened

    return opened(provider)
