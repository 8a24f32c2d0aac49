"""Instrumentation of the anthropic package, where it is called without LangChain in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_coach.core import compatibility
from otel_coach.instrumentors.genai.client_instrumentor import ClientInstrumentor

if TYPE_CHECKING:
    from otel_coach.instrumentors.genai.client_calls import Package


class AnthropicInstrumentor(ClientInstrumentor):
    """Measures messages and completions by the clients of the anthropic package.

    Its clients for Bedrock, Vertex AI and Foundry are among them.
    """

    module = "anthropic"
    clients = "Anthropic"
    part = compatibility.ANTHROPIC_CLIENTS

    def package(self) -> Package:
        from otel_coach.instrumentors.anthropic.calls import PACKAGE  # noqa: PLC0415 - only with the package

        return PACKAGE
