"""What workers measure, as their files have it: bytes; what they say is the page's matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Figures:
    """What one worker wrote last."""

    worker: str
    content: bytes | None
    """None where it could not write anything yet."""
    lives: bool
    stale: bool
    """It was asked for newer figures, and did not answer in time, or cannot write them."""
    offset: int = 0
    """The place of `content` in all that it wrote: what comes before was read already."""


class Source(Protocol):
    """What this worker measures."""

    def measure(self, *, whole: bool) -> bytes:
        """What changed since the last call, or the `whole`.

        Raises:
            OSError: there are no figures any more.
        """
        ...

    def changed(self) -> bool:
        """Whether they are to be measured, though nobody asks for them."""
        ...

    def increments(self) -> bytes:
        """What is known to have changed without a measurement; empty if nothing is."""
        ...

    def retire(self, contents: Sequence[bytes]) -> bytes:
        """One content of several dead workers', of which the first may be such a one.

        Raises:
            OSError: one of them cannot be read.
        """
        ...
