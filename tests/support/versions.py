"""What the installed libraries can do; the lowest versions that are supported lack some of it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from langchain_core.callbacks import BaseCallbackHandler
from packaging.version import Version

HAS_EVENTS_V3: Final = hasattr(BaseCallbackHandler, "on_stream_event")
"""Whether langchain-core knows `astream_events(version="v3")`."""

STREAMS_TELL_PARTS: Final = Version(version("langchain-openai")) >= Version("0.2.2")
"""Whether ChatOpenAI hands over cached and reasoning tokens also on a stream."""

HAS_UTF8_NAMES: Final = Version(version("prometheus-client")) >= Version("0.22")
"""Whether prometheus_client knows names with dots."""

HAS_FRONTENDS: Final = hasattr(FastAPI, "frontend")
"""Whether FastAPI has `app.frontend`."""

LIST_HAS_PARTS: Final = Version(version("genai-prices")) >= Version("0.1")
"""Whether genai-prices has prices for audio, and for what a cache keeps for an hour."""
