"""Instrumentation of the anthropic package, where it is called without LangChain in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_coach.core import compatibility
from otel_coach.instrumentors.genai.client_instrumentor import ClientInstrumentor

if TYPE_CHECKING:
    from otel_coach.instrumentors.genai.provider_package import ProviderPackage


class AnthropicInstrumentor(ClientInstrumentor):
    """Measures messages and completions by the clients of the anthropic package.

    Its clients for Bedrock, Vertex AI and Foundry are among them.
    """

    module = "anthropic"
    clients = "Anthropic"
    part = compatibility.ANTHROPIC_CLIENTS

    def package(self) -> ProviderPackage:
        from otel_coach.instrumentors.genai.provider_package import ProviderPackage  # noqa: PLC0415 - only with the package

        return ProviderPackage(
            name="anthropic",
            module="otel_coach.instrumentors.anthropic.calls",
            models={"/v1/messages": "MessagesCall", "/v1/complete": "TextCompletionCall"},
            embeddings=frozenset(),
            provider_of=_provider_of,
            other_instrumentations=(
                ("openinference.instrumentation.anthropic", "AnthropicInstrumentor"),
                ("opentelemetry.instrumentation.anthropic", "AnthropicInstrumentor"),
            ),
        )


def _provider_of(client: Any) -> str:
    """Returns the provider that `client` asks, by LangChain's name for it."""
    name = type(client).__name__
    if "Bedrock" in name:
        return "anthropic_bedrock"
    return "anthropic_vertex" if "Vertex" in name else "anthropic"
