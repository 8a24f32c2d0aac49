"""The blocks of a context manager that the current code is in.

One object may be entered by several tasks and threads, and more than once by one. No token of a
ContextVar is kept: a generator that is abandoned inside its block may be closed in another context,
which has a copy of the blocks of the context that entered it. So the end of a block sets a flag on
it, which every copy of the context sees.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

_Owner = TypeVar("_Owner")


class Block(Generic[_Owner]):
    """One block that was entered: by the object `owner`, at `started` (`time.perf_counter`)."""

    __slots__ = ("has_ended", "owner", "started")

    def __init__(self, owner: _Owner, started: float) -> None:
        self.owner = owner
        self.started = started
        self.has_ended = False


class OpenBlocks(Generic[_Owner]):
    """The open blocks of the current context, under a `name` for debuggers."""

    def __init__(self, name: str) -> None:
        self._blocks: ContextVar[tuple[Block[_Owner], ...]] = ContextVar(name, default=())

    def __iter__(self) -> Iterator[Block[_Owner]]:
        """Yields the innermost first."""
        return (block for block in self._blocks.get() if not block.has_ended)

    def innermost(self) -> _Owner | None:
        """Returns the owner of the innermost block, None outside of any block."""
        return next((block.owner for block in self), None)

    def enter(self, owner: _Owner, started: float = 0.0) -> None:
        """Notes that `owner` has entered a block."""
        self._blocks.set((Block(owner, started), *self))

    def leave(self, owner: _Owner) -> Block[_Owner] | None:
        """Ends the innermost block of `owner`, and returns it; None if this context has none."""
        left = next((block for block in self if block.owner is owner), None)
        if left is not None:
            left.has_ended = True
            self._blocks.set(tuple(self))
        return left
