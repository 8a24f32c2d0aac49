"""Whether, and by which rule, the work of clients that have left is stopped in this process.

Unless somebody asks for it, the other modules of stopping are not imported.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.core.guard import belongs_to_host, uncounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT_AFTER: Final = 0.2


class StopRule(NamedTuple):
    """How the work of a request is stopped."""

    after: float = DEFAULT_AFTER
    """Seconds between the client's leaving and the stopping."""
    tools: bool = False
    """Whether tools that have begun are stopped, too."""


class OnDemandPatches:
    """Patches that are applied when the first code of the process asks for stopping."""

    def __init__(self) -> None:
        self._is_applied = False
        self._waiting: list[Callable[[], None]] = []

    def apply(self) -> None:
        """Applies what was added; what is added later is applied at once."""
        self._is_applied = True
        while self._waiting:
            self._waiting.pop()()

    def add(
        self, patch: Callable[[], Iterable[Callable[[], None]]], *, now: bool = False
    ) -> Callable[[], None]:
        """Adds a function that patches and yields undo functions; it is called on demand, or now.

        Returns a function that undoes the patches, or removes `patch` if it was not called yet.
        """
        undo = ExitStack()

        def begin() -> None:
            try:
                for restore in patch():
                    undo.callback(restore)
            except BaseException as raised:  # the code that asks for stopping is the host's
                if belongs_to_host(raised):
                    raise
                uncounted.append(raised.with_traceback(None))

        def remove() -> None:
            if begin in self._waiting:
                self._waiting.remove(begin)

        if now or self._is_applied:
            begin()
        else:
            self._waiting.append(begin)
            undo.callback(remove)
        return undo.close


stopping_patches: Final = OnDemandPatches()
