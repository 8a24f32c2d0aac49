"""Instrumentation of the openai package, where it is called without LangChain in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_coach.core import compatibility
from otel_coach.instrumentors.genai.client_instrumentor import ClientInstrumentor

if TYPE_CHECKING:
    from otel_coach.instrumentors.genai.provider_package import ProviderPackage


class OpenAIInstrumentor(ClientInstrumentor):
    """Measures chat completions, responses, completions and embeddings by its clients."""

    module = "openai"
    clients = "OpenAI"
    part = compatibility.OPENAI_CLIENTS

    def package(self) -> ProviderPackage:
        from otel_coach.instrumentors.genai.provider_package import ProviderPackage  # noqa: PLC0415 - only with the package

        return ProviderPackage(
            name="openai",
            module="otel_coach.instrumentors.openai.calls",
            models={
                "/chat/completions": "ChatCall",
                "/completions": "CompletionCall",
                "/responses": "ResponsesCall",
            },
            embeddings=frozenset({"/embeddings"}),
            provider_of=_provider_of,
            other_instrumentations=(
                ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
                ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
                ("opentelemetry.instrumentation.openai_v2", "OpenAIInstrumentor"),
            ),
        )


def _provider_of(client: Any) -> str:
    """Returns the provider that `client` asks, by LangChain's name for it."""
    name = type(client).__name__
    if "Bedrock" in name:
        return "amazon_bedrock"
    return "azure" if "Azure" in name else "openai"
