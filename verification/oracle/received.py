"""Records what came back from a batch of requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace


@dataclass
class Received:
    """What the users of one batch received."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Responses by endpoint and status, including those sent after the user had left."""
    chunks: Counter[str] = field(default_factory=Counter)
    """By endpoint, the lines of streams that were read to their end or until they broke off."""
    left: dict[int, float] = field(default_factory=dict[int, float])
    """By the order's number, when its user left, in seconds since the epoch."""
    unanswered: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """The endpoints and numbers of orders whose users left before the response."""
    surprises: list[str] = field(default_factory=list)
    """One line for each response with an unexpected status."""
    first_chunks: int = 0
    """Streams of which at least one line arrived."""

    def with_answers(self, answered: list[str]) -> Received:
        """Returns the same for a service that stops the work of those who have left.

        `answered` are the orders that the application has answered all the same.
        """
        statuses = Counter(self.statuses)
        for endpoint, number in self.unanswered:
            if str(number) not in answered and endpoint.startswith("/await"):
                statuses[endpoint, 200] -= 1
                statuses[endpoint, 499] += 1
        return replace(self, statuses=+statuses)
