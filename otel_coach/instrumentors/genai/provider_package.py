"""What is known of a provider's package."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_coach.instrumentors.genai.direct_call import DirectCall
    from otel_coach.instrumentors.genai.direct_embedding import DirectEmbedding


class ProviderPackage(NamedTuple):
    """What is known of a provider's package."""

    name: str
    """The package's name, which is also that of the provider that its clients ask by default."""
    module: str
    """The module with the classes of model calls; imported at the first such call."""
    models: Mapping[str, str]
    """The names of these classes, by the path of the endpoint that is called."""
    embeddings: frozenset[str]
    """The paths of the endpoints of embedding models."""
    provider_of: Callable[[Any], str]
    """Returns the provider that a client asks."""
    other_instrumentations: tuple[tuple[str, str], ...]
    """The instrumentors of other packages that make a span for each call: module and class."""

    def class_of(self, path: str) -> type[DirectCall | DirectEmbedding]:
        """Returns the class of the calls of the endpoint at `path`."""
        if path in self.embeddings:
            from otel_coach.instrumentors.genai.direct_embedding import DirectEmbedding  # noqa: PLC0415 - as `module`

            return DirectEmbedding
        return getattr(import_module(self.module), self.models[path])


def address_of(client: Any) -> str | None:
    """Returns the address that `client` asks."""
    return str(getattr(client, "base_url", "")) or None
