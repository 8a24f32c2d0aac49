"""The language model the coach speaks through."""

from collections.abc import Generator
from contextlib import contextmanager
from json import JSONDecodeError

from httpx import HTTPError
from langchain_openai import ChatOpenAI
from openai import APIError
from provider import Provider
from pydantic import SecretStr
from settings import Settings

# An unreadable stream surfaces as the decoder's own error, not as one of OpenAI's; one that
# breaks off surfaces as the HTTP client's in older versions of langchain-openai.
PROVIDER_ERRORS = (APIError, JSONDecodeError, HTTPError)


@contextmanager
def open_model(settings: Settings) -> Generator[ChatOpenAI]:
    """Give the configured model; without a key or an address, a local provider plays it."""
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
        max_retries=0,  # A runner is waiting: fail now and let the client decide.
    )
