"""An exchange that stops the work of its request when the client has left.

The disconnect is delivered to the application when the work has ended, except to code that only
looks whether the client has left. So each task gets one
CancelledError, and can clean up. Otherwise Starlette would cancel an anyio cancel scope,
which raises CancelledError again at each `await` of a clean-up.
"""

from __future__ import annotations

import asyncio
import math
import sys
from asyncio import CancelledError
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded
from otel_coach.core.stopping import StoppableRequest
from otel_coach.instrumentors.asgi.awaiting import descends_from
from otel_coach.instrumentors.asgi.exchange import Exchange
from otel_coach.instrumentors.asgi.look_ahead import DISCONNECT, can_look_ahead
from otel_coach.instrumentors.asgi.server_messages import ServerMessages
from otel_coach.instrumentors.asgi.server_task import ServerTask
from otel_coach.instrumentors.asgi.stopping_work import TICK, Stopping
from otel_coach.metrics.labels import INVOKE, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.asgi_types import Message
    from otel_coach.core.stop_rule import StopRule
    from otel_coach.instrumentors.asgi.stopping_work import Root

    _Task = asyncio.Task[Any]

_MAX_LOOK: Final = 5.0
"""Seconds in which code that has looked whether its client has left must look again."""
_MAX_REACTION: Final = 1.0
"""Seconds in which it must then have stopped its work."""


def exchange_of(rule_of: Callable[[str], StopRule | None], *arguments: Any) -> Exchange:
    """Returns an exchange whose work can be stopped; outside of asyncio, an ordinary one.

    `rule_of` returns how the work of an endpoint is stopped, None if it is not; `arguments` are
    those of `Exchange`.
    """
    *_, receive, _send = arguments
    task = current_task() if can_look_ahead(receive) else None
    return Exchange(*arguments) if task is None else StoppingExchange(rule_of, task, *arguments)


class StoppingExchange(Exchange):
    """An exchange. When its client has left, the work of its request is stopped.

    Args:
        rule_of: as for `exchange_of`.
        task: the server's task, in which the application is called.
        arguments: those of `Exchange`.
    """

    request: StoppableRequest
    _request_class = StoppableRequest
    application_polls = False
    """Whether the application looks for itself, now and then, whether the client has left."""
    sender: _Task | None = None
    """The task that has sent the latest message of the response so far; None before the first."""

    def __init__(
        self, rule_of: Callable[[str], StopRule | None], task: _Task, *arguments: Any
    ) -> None:
        super().__init__(*arguments)
        self.rule_of = rule_of
        self.server_task = ServerTask(task)
        self._messages = ServerMessages(self._receive, self._note_disconnect)
        self._receive = self._messages.next
        self._stopping = _RequestStopping(self)

    @property
    def is_stream(self) -> bool:
        """Whether the response is a stream."""
        return self._is_stream

    def watch(self) -> None:
        """Notices from now on when the client leaves, also before the application asks."""
        self._messages.watch()

    async def receive(self) -> Message:
        """Returns the server's next message.

        While the work is being stopped, a disconnect is held back until that is finished. Code that
        only looks gets it at once.
        """
        looks = self._only_looks()
        if looks:
            self.application_polls = True
        message = await super().receive()
        if message["type"] == DISCONNECT:
            if not looks:
                await self._stopping.until_stopped()
            if self.request.stop is not None:
                self.request.stop.has_notified = True
        return message

    @guarded  # None after a fault
    def _only_looks(self) -> bool:
        """Returns whether the application takes a message only if it need not wait for it.

        That is how Starlette's `Request.is_disconnected` asks: inside of a cancelled scope of
        anyio's.
        """
        anyio: Any = sys.modules.get("anyio")
        return anyio is not None and anyio.current_effective_deadline() == -math.inf

    async def send(self, message: Message) -> None:
        """Passes `message` on.

        While the work is being stopped, the server's OSError is held back until that is finished.
        """
        self.sender = current_task()
        if self.request.goes_on_though_cancelled(message):
            raise CancelledError
        try:
            await super().send(message)
        except OSError:
            await self._stopping.until_stopped()
            raise

    @guarded  # None after a fault: the error is the server's
    def absorbs(self, error: BaseException) -> bool:
        """Returns whether the stopping alone has caused `error`, which then goes no further."""
        if isinstance(error, CancelledError) and self.server_task.is_cancelled_by_others:
            return False  # the server has cancelled the task, too, and gets its CancelledError
        return self._stopping.caused(error)

    @guarded
    def _finish(self, error: BaseException | None) -> None:
        self._messages.close()
        super()._finish(error)
        self.server_task.uncancel()
        self._stopping.request_ended()
        self.sender = self.request.streaming_task = None

    def _record(self) -> None:
        super()._record()
        if self.request.stop is not None:  # an alert's rate() needs the series before the first
            self._stopping.count(0)

    def _may_look(self) -> bool:
        # What is read beside a waiting `receive` is handed over to it.
        return super()._may_look() or (self._has_body and self._messages.is_watched)

    def _look_ahead(self) -> None:
        if not self._messages.is_watched:
            super()._look_ahead()
        elif self._has_body:  # otherwise the next message may be a part of it
            self._look_beside()

    @guarded
    def _look_beside(self) -> None:
        if self._messages.client_has_left_now():
            self._note_client_left()

    @guarded
    def _note_client_left(self) -> None:
        super()._note_client_left()
        if self._client_left:
            self._stopping.begin()


class _RequestStopping(Stopping):
    """The stopping of an HTTP request's work."""

    exchange: StoppingExchange

    def __init__(self, exchange: StoppingExchange) -> None:
        super().__init__(exchange.request, exchange)

    async def until_interruptible(self) -> None:
        """Waits until code that looks for itself whether the client has left has stopped its work.

        It may have begun the work in a task that it does not await, and be the only one to cancel
        it. So it is cancelled only if it does not look again, or leaves the work as it is.
        """
        stop, until = self.request.stop, monotonic() + _MAX_LOOK
        while self._application_polls and stop and not stop.has_notified and monotonic() < until:  # noqa: ASYNC110 - a look has no event
            await asyncio.sleep(TICK)
        until = monotonic() + _MAX_REACTION
        while self._application_polls and self.open_roots() and monotonic() < until:  # noqa: ASYNC110 - runs have no event
            await asyncio.sleep(TICK)

    @property
    def _application_polls(self) -> bool:
        return not self.request.closed and self.exchange.application_polls

    def rule(self) -> StopRule | None:
        return self.request.stop_rule or self.exchange.rule_of(self.exchange.route.template)

    def mode(self) -> str:
        return STREAM if self.exchange.is_stream else INVOKE

    def known_answering_tasks(self) -> set[_Task | None]:
        return {self.server_task.task, self.exchange.sender, self.request.streaming_task}

    def answering_task_around(self, root: Root) -> _Task | None:
        route: _Task = root.place.route_task or self.server_task.task
        sender = self.request.streaming_task or self.exchange.sender
        is_inside = sender is not None and not sender.done() and descends_from(sender, route)
        return sender if is_inside else route
