"""A WebSocket that stops the work of its turns when the client has left.

A task that answers is cancelled, as for a request. But a handler expects no CancelledError there:
it cleans up at the WebSocketDisconnect that its next `send` or `receive` would raise. So this is
raised in its place, where the run that the handler awaits has ended.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, Final

from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded
from otel_coach.core.stopping import Stop, StoppableRequest, StoppedError
from otel_coach.instrumentors.asgi.answering import unwrapped
from otel_coach.instrumentors.asgi.event_feeders import feeds_events
from otel_coach.instrumentors.asgi.look_ahead import DISCONNECTS, can_look_ahead
from otel_coach.instrumentors.asgi.server_messages import ServerMessages
from otel_coach.instrumentors.asgi.stopping_work import OwnTask, Stopping
from otel_coach.instrumentors.asgi.turns import Turn
from otel_coach.instrumentors.asgi.websocket import Connection
from otel_coach.metrics.labels import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.asgi_types import Message
    from otel_coach.core.stopping import AnyRun, StopRule
    from otel_coach.instrumentors.asgi.awaiting import Place

    _Task = asyncio.Task[Any]

_LEFT: Final = 1006
"""The close code that Starlette states where sending fails."""


def connection_of(rule_of: Callable[[str], StopRule | None], *arguments: Any) -> Connection:
    """Returns a connection whose work can be stopped; outside of asyncio, an ordinary one.

    `rule_of` returns how the work of an endpoint is stopped, None if it is not; `arguments` are
    those of `Connection`.
    """
    *_, receive, _send, _tracer = arguments
    task = current_task() if can_look_ahead(receive) else None
    return Connection(*arguments) if task is None else StoppingConnection(rule_of, task, *arguments)


class StoppableTurn(Turn, StoppableRequest):
    """A turn whose work can be stopped."""

    connection: StoppingConnection

    def outermost_run_started(self, run: Any) -> None:
        if self.watcher is None and not self.closed:
            self.connection.watch_turn(self)
        super().outermost_run_started(run)


class StoppingConnection(Connection):
    """Adds to a connection that the work of its turns is stopped when the client has left.

    Args:
        rule_of: as for `connection_of`.
        task: the server's task, in which the application is called.
        arguments: those of `Connection`.
    """

    _turn_class = StoppableTurn
    receiver: _Task | None = None
    """The task that waits for the server's next message."""
    told: BaseException | None = None
    """What an awaited run raised instead of the cancellation."""

    def __init__(
        self, rule_of: Callable[[str], StopRule | None], task: _Task, *arguments: Any
    ) -> None:
        super().__init__(*arguments)
        self._rule_of = rule_of
        self.own = OwnTask(task)
        self._stoppings: dict[StoppableTurn, TurnStopping] = {}
        """Of the turns that have runs and are not recorded yet."""
        self.waiting: set[_Task] = set()
        """Tasks that wait in `receive` or `send` to be told that the client has left."""
        self._messages = ServerMessages(self._receive, self._note_disconnect)
        self._receive = self._messages.next

    def watch(self) -> None:
        """Notices from now on when the client leaves, also before the application asks."""
        self._messages.watch()

    @guarded
    def watch_turn(self, turn: StoppableTurn) -> None:
        """Prepares for stopping the work of `turn`, if it may have to be stopped."""
        if self.rule_of(turn) is not None:
            self._stoppings[turn] = TurnStopping(turn, self)

    def rule_of(self, turn: StoppableTurn) -> StopRule | None:
        """Returns how the work of `turn` is stopped; None if it is not."""
        first = self._first_turn
        of_connection = first.stop_rule if isinstance(first, StoppableTurn) else None
        return turn.stop_rule or of_connection or self._rule_of(self.route.template)

    async def receive(self) -> Message:
        """Returns the next message; a disconnect only when the work has been stopped."""
        self.receiver = current_task()
        try:
            message = await super().receive()
            if message["type"] in DISCONNECTS:
                await self._until_stopped()
        finally:
            self.receiver = None
        return message

    async def send(self, message: Message) -> None:
        """Passes `message` on; that the client has left is told when the work has been stopped."""
        self._note_sender(message)
        try:
            await super().send(message)
        except OSError:
            await self._until_stopped()
            raise

    @guarded
    def _note_sender(self, message: Message) -> None:
        task = current_task()
        if not self._stoppings or message["type"] != "websocket.send" or task is None:
            return
        turn = self._turn_of_message()
        if isinstance(turn, StoppableTurn) and (stopping := self._stoppings.get(turn)) is not None:
            stopping.senders.add(task)

    async def _until_stopped(self) -> None:
        task = current_task()
        stoppings = tuple(self._stoppings.items())
        if not stoppings or task is None:
            return
        self.waiting.add(task)
        try:
            for _, stopping in stoppings:
                await stopping.until_stopped()
        finally:
            self.waiting.discard(task)
        for turn, _ in stoppings:
            if turn.stop is not None:
                turn.stop.is_told = True

    @guarded  # None after a fault: the error is the server's
    def absorbs(self, error: BaseException) -> bool:
        """Returns whether `error` ends work that was stopped here, and nobody else is to get it."""
        error = unwrapped(error)
        if isinstance(error, CancelledError):
            return self.own.is_cancelled and not self.own.is_cancelled_by_others
        return error is self.told or isinstance(error, StoppedError)

    def _look_ahead(self) -> None:
        # A server may refuse to be asked a second time while a task waits for its next message.
        if not self._messages.is_watched:
            super()._look_ahead()

    @guarded
    def _note_client_left(self) -> None:
        super()._note_client_left()
        if self._client_left:
            for turn, stopping in tuple(self._stoppings.items()):
                if turn.abandoned_endpoint is not None:
                    stopping.begin()

    @guarded
    def ended(self, error: BaseException | None) -> None:
        super().ended(error)
        self._messages.close()
        self.own.uncancel()
        for turn in tuple(self._stoppings):
            self.forget(turn)
        self.told = None  # its traceback has the application's frames

    @guarded
    def finish_turn(self, turn: Turn, error: BaseException | None = None) -> None:
        super().finish_turn(turn, error)
        if isinstance(turn, StoppableTurn) and turn in self._stoppings:
            if turn.stop is not None:  # an alert's rate() needs the series before the first
                self._stoppings[turn].count(0)
            self.forget(turn)

    def forget(self, turn: StoppableTurn) -> None:
        """Notes that nothing of `turn` has to be stopped any more."""
        if (stopping := self._stoppings.pop(turn, None)) is not None:
            stopping.request_ended()


class TurnStopping(Stopping):
    """The stopping of a turn's work."""

    request: StoppableTurn
    answerer: StoppingConnection

    def __init__(self, turn: StoppableTurn, connection: StoppingConnection) -> None:
        super().__init__(turn, connection)
        self.senders: set[_Task] = set()
        """The tasks that have sent messages of this turn."""

    def rule(self) -> StopRule | None:
        return self.answerer.rule_of(self.request)

    def mode(self) -> str:
        return STREAM

    def new_stop(self, rule: StopRule) -> Stop:
        stop = super().new_stop(rule)
        stop.told_by = self._told_by
        return stop

    @guarded
    def run_ended(self, run: AnyRun, *, was_aborted: bool) -> None:
        super().run_ended(run, was_aborted=was_aborted)
        if not self.roots and not self.request.is_ai and not self.request.closed:
            self.answerer.forget(self.request)  # nothing tells the end of such a turn

    def request_ended(self) -> None:
        super().request_ended()
        self.senders.clear()

    def known_answerers(self) -> set[_Task | None]:
        return {self.own.task, self.request.reader, *self.senders}

    def makes_answer(self, place: Place) -> bool:
        return place.task in self.senders or super().makes_answer(place)

    def answerer_around(self, place: Place) -> _Task | None:
        """Returns the task that makes the answer, and may await the task of `place`.

        One that has asked for the next message does not await it. A stream of events ends with the
        task that feeds it, and then the handler's next message tells that the client has left.
        """
        if place.task in self.senders or (place.task is not None and feeds_events(place.task)):
            return place.task
        reader = self.request.reader or self.own.task
        return None if reader is self.answerer.receiver else reader

    def tasks_to_cancel(self) -> set[_Task]:
        tasks = super().tasks_to_cancel()
        waiting = tasks & self.answerer.waiting
        if waiting and self.request.stop is not None:
            self.request.stop.has_cancelled = True  # what is streamed ends at its next chunk
        return tasks - waiting

    @guarded
    def _told_by(self, error: BaseException, run: AnyRun | None) -> BaseException | None:
        if isinstance(error, CancelledError):
            task = current_task() if run is None else self.roots[run].place.task
            if task is not self.own.task or not self.own.is_cancelled:
                return None
            if self.own.is_cancelled_by_others:
                return None
            self.own.uncancel()
        from starlette.websockets import WebSocketDisconnect  # noqa: PLC0415 - the application has imported it

        self.answerer.told = told = WebSocketDisconnect(_LEFT)
        return told
