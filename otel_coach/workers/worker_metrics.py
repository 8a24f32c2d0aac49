"""The metrics of workers as bytes; only the `prometheus` package knows their format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """The metrics that one worker last wrote."""

    worker: str
    content: bytes | None
    """None if the worker has not been able to write anything yet."""
    lives: bool
    stale: bool
    """The worker was asked for newer metrics, and did not answer in time or cannot write them."""
    offset: int = 0
    """The position of `content` in the worker's file; what is before it was read earlier."""


class MetricsSource(Protocol):
    """The metrics of this worker."""

    def measure(self, *, whole: bool) -> bytes:
        """Returns what changed since the last call, or all metrics if `whole`.

        Raises:
            OSError: there are no metrics any more.
        """
        ...

    def changed(self) -> bool:
        """Whether to measure now, although no other worker asks for it."""
        ...

    def increments(self) -> bytes:
        """Returns the changes that are known without a measurement; empty if there are none."""
        ...

    def fold(self, contents: Sequence[bytes]) -> bytes:
        """Merges the contents of several ended workers; the first may be an earlier result.

        Raises:
            OSError: one of the contents cannot be read.
        """
        ...
