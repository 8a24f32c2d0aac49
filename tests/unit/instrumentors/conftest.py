import pytest
from langchain_openai import ChatOpenAI


@pytest.fixture
def model(provider):
    return ChatOpenAI(
        model="gpt-3.5-turbo",
        api_key="k",
        base_url=provider.base_url,
        stream_usage=True,
        max_retries=0,
        timeout=10,
    )
