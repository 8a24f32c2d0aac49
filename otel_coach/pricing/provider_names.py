"""What libraries, the semantic conventions and the price list call the same provider."""

from __future__ import annotations

from typing import Final, NamedTuple


class ProviderNames(NamedTuple):
    """The names of one provider."""

    semconv: str
    """`gen_ai.provider.name`, by the GenAI semantic conventions where they have one."""
    listed: str
    """The id in the price list."""


BEDROCK: Final = ProviderNames("aws.bedrock", "aws")
_GEMINI: Final = ProviderNames("gcp.gemini", "google")
_VERTEX: Final = ProviderNames("gcp.vertex_ai", "google")
_MISTRAL: Final = ProviderNames("mistral_ai", "mistral")
_XAI: Final = ProviderNames("x_ai", "x-ai")
_NAMES: Final = {
    "amazon_bedrock": BEDROCK,
    "anthropic_bedrock": BEDROCK,
    "anthropic_mantle": BEDROCK,
    "anthropic_vertex": _VERTEX,
    "aws": BEDROCK,
    "azure": ProviderNames("azure.ai.openai", "azure"),
    "azure_ai": ProviderNames("azure.ai.inference", "azure"),
    "azure_openai": ProviderNames("azure.ai.openai", "azure"),
    "bedrock": BEDROCK,
    "bedrock_converse": BEDROCK,
    "gemini": _GEMINI,
    "google": _GEMINI,
    "google_anthropic_vertex": _VERTEX,
    "google_genai": _GEMINI,
    "google_vertexai": _VERTEX,
    "mistral": _MISTRAL,
    "mistralai": _MISTRAL,
    "openai_mantle": BEDROCK,
    "x_ai": _XAI,
    "xai": _XAI,
}


def names_of(provider: str) -> ProviderNames:
    """Returns the names of the provider that a library calls `provider`.

    A provider that the table does not have is called `provider` everywhere.
    """
    name = provider.lower().replace("-", "_")
    return _NAMES.get(name) or ProviderNames(provider, provider)
