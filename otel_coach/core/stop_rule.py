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
    """Seconds that the client has been gone before."""
    tools: bool = False
    """Whether tools that have begun are stopped, too."""


class Wishes:
    """Patches what stopping needs when the first code of the process asks for it."""

    def __init__(self) -> None:
        self._is_wanted = False
        self._waiting: list[Callable[[], None]] = []

    def want(self) -> None:
        """Calls all that wait, once."""
        self._is_wanted = True
        while self._waiting:
            self._waiting.pop()()

    def when_wanted(
        self, patches: Callable[[], Iterable[Callable[[], None]]], *, now: bool = False
    ) -> Callable[[], None]:
        """Calls `patches` at the first wish, or now; it returns the undo functions of its patches.

        Returns a function that undoes them, or takes the waiting back.
        """
        undo = ExitStack()

        def begin() -> None:
            try:
                for restore in patches():
                    undo.callback(restore)
            except BaseException as raised:  # the code that asks for stopping is the host's
                if belongs_to_host(raised):
                    raise
                uncounted.append(raised.with_traceback(None))

        def give_up() -> None:
            if begin in self._waiting:
                self._waiting.remove(begin)

        if now or self._is_wanted:
            begin()
        else:
            self._waiting.append(begin)
            undo.callback(give_up)
        return undo.close


wishes: Final = Wishes()
