"""Instrumentation of the openai package, where it is called without LangChain in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_coach.core import compatibility
from otel_coach.instrumentors.genai.client_instrumentor import ClientInstrumentor

if TYPE_CHECKING:
    from otel_coach.instrumentors.genai.client_calls import Package


class OpenAIInstrumentor(ClientInstrumentor):
    """Measures chat completions, responses, completions and embeddings by its clients."""

    module = "openai"
    clients = "OpenAI"
    part = compatibility.OPENAI_CLIENTS

    def package(self) -> Package:
        from otel_coach.instrumentors.openai.calls import PACKAGE  # noqa: PLC0415 - only with the package

        return PACKAGE
