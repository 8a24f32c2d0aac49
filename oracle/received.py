"""What came back from a batch of requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Received:
    """What the users of one batch received."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Responses by endpoint and status; one that came after its user left counts as sent."""
    chunks: Counter[str] = field(default_factory=Counter)
    """Lines of streams that were read to their end, or until they broke off, by endpoint."""
    surprises: list[str] = field(default_factory=list)
    """Answers that the application under test should not have given."""
    first_chunks: int = 0
    """Streams of which at least one line came."""
