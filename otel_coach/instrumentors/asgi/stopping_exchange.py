"""An exchange that stops the work of its request when the client has left.

The disconnect is delivered to the application when the work has ended. So each task gets one
CancelledError, and can clean up. Otherwise Starlette would cancel an anyio cancel scope,
which raises CancelledError again at each `await` of a clean-up.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded
from otel_coach.core.stopping import StoppableRequest
from otel_coach.instrumentors.asgi.awaiting import descends_from
from otel_coach.instrumentors.asgi.exchange import Exchange
from otel_coach.instrumentors.asgi.look_ahead import DISCONNECT, can_look_ahead
from otel_coach.instrumentors.asgi.server_messages import ServerMessages
from otel_coach.instrumentors.asgi.stopping_work import ServerTask, Stopping
from otel_coach.metrics.labels import INVOKE, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.asgi_types import Message
    from otel_coach.core.stop_rule import StopRule
    from otel_coach.instrumentors.asgi.stopping_work import Root

    _Task = asyncio.Task[Any]


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
    sender: _Task | None = None
    """The task that has sent the last message of the response."""

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
        """Returns the server's next message; a disconnect only when the work has been stopped."""
        message = await super().receive()
        if message["type"] == DISCONNECT:
            await self._stopping.until_stopped()
            if self.request.stop is not None:
                self.request.stop.has_notified = True
        return message

    async def send(self, message: Message) -> None:
        """Passes `message` on; an OSError is raised only when the work has been stopped."""
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

    def _look_ahead(self) -> None:
        if not self._messages.is_watched:
            super()._look_ahead()
        elif self._has_body:  # otherwise the next message may be a part of it
            self._look_beside()

    @guarded
    def _look_beside(self) -> None:
        if self._messages.is_left_now():
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
