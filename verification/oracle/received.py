"""Records what came back from a batch of requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Received:
    """What the users of one batch received."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Responses by endpoint and status, including those sent after the user had left."""
    chunks: Counter[str] = field(default_factory=Counter)
    """By endpoint, the lines of streams that were read to their end or until they broke off."""
    surprises: list[str] = field(default_factory=list)
    """One line for each response with an unexpected status."""
    first_chunks: int = 0
    """Streams of which at least one line arrived."""
