"""The language model that the coach uses."""

from collections.abc import Generator
from contextlib import contextmanager
from json import JSONDecodeError

from httpx import HTTPError
from langchain_openai import ChatOpenAI
from openai import APIError
from provider import Provider
from pydantic import SecretStr
from settings import Settings

# An unreadable stream raises the JSON decoder's error, not one of OpenAI's; a stream that breaks
# off raises the HTTP client's error in older versions of langchain-openai.
PROVIDER_ERRORS = (APIError, JSONDecodeError, HTTPError)


@contextmanager
def open_model(settings: Settings) -> Generator[ChatOpenAI]:
    """Yield the configured model; without a key or an address, one at a local provider."""
    if settings.openai_api_key or settings.openai_base_url:
        yield _chat_model(settings, settings.openai_base_url)
        return
    with Provider() as provider:
        yield _chat_model(settings, provider.base_url)


def _chat_model(settings: Settings, base_url: str | None) -> ChatOpenAI:
    return ChatOpenAI(
        model=settings.model,
        api_key=SecretStr(settings.openai_api_key or "local"),
        base_url=base_url,
        stream_usage=True,
        timeout=30,
        max_retries=0,  # A user is waiting: fail immediately and let the client decide.
    )
