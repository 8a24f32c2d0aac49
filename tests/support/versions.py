"""What the installed libraries can do; the lowest versions that are supported lack some of it."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from inspect import signature
from typing import Final

from fastapi import FastAPI
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel, chat_models
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from packaging.version import Version

HAS_EVENTS_V3: Final = hasattr(BaseCallbackHandler, "on_stream_event")
"""Whether langchain-core knows `astream_events(version="v3")`."""

STREAMS_TELL_PARTS: Final = Version(version("langchain-openai")) >= Version("0.2.2")
"""Whether ChatOpenAI hands over cached and reasoning tokens also on a stream."""

HAS_RESPONSES: Final = "use_responses_api" in ChatOpenAI.model_fields
"""Whether ChatOpenAI knows OpenAI's Responses API."""

CACHES_MAY_KEEP_TEXT: Final = hasattr(BaseChatModel, "_convert_cached_generations")
"""Whether LangChain takes the text of a cache that keeps no messages."""

HANDS_OVER_REFUSED_ANSWERS: Final = hasattr(chat_models, "_generate_response_from_error")
"""Whether LangChain hands over an answer for which the openai package raises."""

EMBEDDINGS_TAKE_A_MODEL: Final = "kwargs" in signature(OpenAIEmbeddings.embed_query).parameters
"""Whether one call of OpenAIEmbeddings may name another model."""

HAS_UTF8_NAMES: Final = Version(version("prometheus-client")) >= Version("0.22")
"""Whether prometheus_client knows names with dots."""

HAS_FRONTENDS: Final = hasattr(FastAPI, "frontend")
"""Whether FastAPI has `app.frontend`."""

HAS_MESSAGES: Final = Version(version("anthropic")) >= Version("0.16")
"""Whether the anthropic package has messages outside of its beta part, with tools and helpers."""

HAS_CONFIGURATION_FILES: Final = find_spec("opentelemetry.configuration") is not None
"""Whether OpenTelemetry reads OTEL_CONFIG_FILE; to import the package takes a second."""

LANGGRAPH_LEAVES_ITS_QUEUE = find_spec("langgraph.utils.queue") is not None
"""Whether LangGraph leaves what waits for its queue to the garbage collector, so that Python says
that an event loop is closed."""
HAS_SANSIO = find_spec("uvicorn.protocols.websockets.websockets_sansio_impl") is not None
WEBSOCKET_SERVERS = [
    *("websockets", "wsproto", "hypercorn"),
    *(["websockets-sansio"] if HAS_SANSIO else []),
]
"""uvicorn's implementations of the protocol, and hypercorn."""
