"""The local provider's ledger: the requests it received, and what it really sent."""

import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from uuid import uuid4

Outcome: TypeAlias = Literal["open", "complete", "refused", "cut", "garbled", "abandoned"]


@dataclass(slots=True)
class Entry:
    """One request to the provider.

    The tokens are those that the provider processed, whether or not it reported them to the
    client: for a stream, `completion_tokens` is always `chunks_sent + reasoning_tokens`. A request
    that was refused, or abandoned before work began, has none. Times are seconds since the epoch.
    """

    model: str
    stream: bool
    user: str | None = None  # The end user, if the request names one.
    kind: Literal["chat", "embeddings"] = "chat"
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    status_code: int = 200
    outcome: Outcome = "open"
    tool_call: str | None = None  # The name of the tool, if the answer is a tool call.
    chunks_sent: int = 0  # Stream chunks with a piece of text or of a tool call.
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # Part of the prompt tokens.
    reasoning_tokens: int = 0  # Part of the completion tokens.
    usage_sent: bool = False  # True once the usage block was sent.
    started: float = field(default_factory=time.time)
    first_chunk_at: float | None = None
    ended: float | None = None

    def chunk_sent(self) -> None:
        """Count one more piece of the answer."""
        self.first_chunk_at = self.first_chunk_at or time.time()
        self.chunks_sent += 1
        self.completion_tokens += 1

    def end(self, outcome: Outcome) -> None:
        """Close the entry; `end` may be called again if the client then turns out to have left."""
        self.outcome = outcome
        self.ended = time.time()
