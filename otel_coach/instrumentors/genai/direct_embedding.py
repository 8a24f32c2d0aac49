"""One call of an embedding model by a provider's own package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_coach.instrumentors.genai.embedding_call import EmbeddingCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_coach.instrumentors.genai.runs import Run


class DirectEmbedding(EmbeddingCall):
    """A call of an embedding model that is not inside another one.

    It has the methods of a `DirectCall` that `OpenCalls` uses.

    Args:
        parent: the run around the call.
        body: the request's JSON.
        provider: the name of the provider.
    """

    __slots__ = ("failure", "gives_way", "is_finished")

    def __init__(self, parent: Run | None, body: Mapping[str, Any], provider: str | None) -> None:
        super().__init__(parent, body.get("model"), provider)
        dimensions = body.get("dimensions")
        self.dimensions = dimensions if type(dimensions) is int else None
        self.gives_way = False
        self.is_finished = False
        self.failure: Exception | None = None

    def answer_came(self, answer: Any) -> None:
        """Notes the answer."""
        self.answered(getattr(answer, "usage", None), getattr(answer, "model", None))

    def chunk_came(self, chunk: Any) -> None:
        """Does nothing: embeddings are not streamed."""

    def event_came(self, data: str) -> None:
        """Does nothing either."""


class EmbeddingPart:
    """One request of an `EmbeddingCall` that is open; passes the provider's answer on to it."""

    def __init__(self, whole: EmbeddingCall) -> None:
        self._whole = whole
        self.is_finished = False

    def answer_came(self, answer: Any) -> None:
        """Passes the answer on."""
        self._whole.answered(getattr(answer, "usage", None), getattr(answer, "model", None))

    def chunk_came(self, chunk: Any) -> None:
        """Does nothing: embeddings are not streamed."""

    def event_came(self, data: str) -> None:
        """Does nothing either."""
