"""The server's task of a request, and the tasks that the stopping of its work has cancelled."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

    _Task = asyncio.Task[Any]


class ServerTask:
    """The server's task, in which the application is called, and the cancellations from here.

    "Here" is the stopping; others, such as the server, may cancel the same tasks.
    """

    def __init__(self, task: _Task) -> None:
        self.task = task
        self.thread = get_ident()
        """That of its event loop."""
        self._cancellations = 0
        """How often it has been cancelled here, and not uncancelled: 0 or 1."""
        self._cancelled: WeakSet[_Task] = WeakSet()
        """All tasks that have been cancelled here."""

    @property
    def is_cancelled(self) -> bool:
        """Whether it has been cancelled here."""
        return self._cancellations > 0

    @property
    def is_cancelled_by_others(self) -> bool:
        """Whether others have cancelled it."""
        return self.task.cancelling() > self._cancellations

    @property
    def is_cancelled_only_here(self) -> bool:
        """Whether it has been cancelled here, and not by others."""
        return self.is_cancelled and not self.is_cancelled_by_others

    def cancel(self, task: _Task) -> bool:
        """Cancels `task`, which is this or another task of the connection, at most once.

        A second cancellation would interrupt its clean-up. Returns whether it has been cancelled
        here, now or before: not if others are cancelling it.
        """
        if task in self._cancelled:
            return True
        if task.cancelling() > 0:
            return False
        self._cancelled.add(task)
        if task is self.task:
            self._cancellations = 1
        task.cancel()
        return True

    def is_cancelling(self, task: _Task) -> bool:
        """Returns whether `task` has been cancelled here, and has not been uncancelled."""
        return task in self._cancelled and task.cancelling() > 0

    def uncancel(self) -> None:
        """Takes the cancellation of the server's task back: its exception goes no further."""
        if self._cancellations:
            self._cancellations = 0
            self.task.uncancel()
