"""A WebSocket that stops the work of its turns when the client has left.

A task that answers is cancelled, as for a request. But a handler expects no CancelledError there:
it cleans up at the WebSocketDisconnect that its next `send` or `receive` would raise. So this is
raised in its place, where the run that the handler awaits has ended.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.core.copies import items_of
from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded, guarded_async
from otel_coach.core.request_context import current_request
from otel_coach.core.stopping import Stop, StoppableRequest, StoppedError
from otel_coach.instrumentors.asgi.answering import unwrapped
from otel_coach.instrumentors.asgi.awaiting import awaits_run
from otel_coach.instrumentors.asgi.look_ahead import can_look_ahead
from otel_coach.instrumentors.asgi.server_messages import ServerMessages
from otel_coach.instrumentors.asgi.stopping_work import TICK, OwnTask, Stopping
from otel_coach.instrumentors.asgi.turns import Turn
from otel_coach.instrumentors.asgi.websocket import Connection
from otel_coach.metrics.labels import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.asgi_types import Message
    from otel_coach.core.stop_rule import StopRule
    from otel_coach.core.stopping import AnyRun
    from otel_coach.instrumentors.asgi.awaiting import Place
    from otel_coach.instrumentors.asgi.stopping_work import Root

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
    knows = False
    """Whether code of this turn got an exception that says that the client has left."""

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

    @property
    def will_know(self) -> bool:
        """Whether the application knows that its client has left, or waits for what tells it."""
        return self._is_told or self._is_receiving

    async def receive(self) -> Message:
        """Returns the next message."""
        message = await super().receive()
        if self._is_told:
            self._note_told()
        return message

    async def send(self, message: Message) -> None:
        """Passes `message` on. If the client has left, what it answers is stopped now."""
        self._note_sender(message)
        try:
            await self._send_or_left(message)
        except OSError:
            self._stop_now()
            raise

    async def _send_or_left(self, message: Message) -> None:
        try:
            await super().send(message)
        except RuntimeError as error:
            # Servers may take a message after a disconnect, which was read ahead, for a mistake.
            if not (self._client_left and message["type"] == "websocket.send"):
                raise
            self._is_told = True
            raise OSError(_LEFT) from error

    @guarded
    def _note_sender(self, message: Message) -> None:
        task = current_task()
        if not self._stoppings or message["type"] != "websocket.send" or task is None:
            return
        turn = self._turn_of_message()
        if isinstance(turn, StoppableTurn) and (stopping := self._stoppings.get(turn)) is not None:
            stopping.senders.add(task)

    @guarded
    def _stop_now(self) -> None:
        """Stops what can be stopped in no time: the application is about to be told."""
        for turn, stopping in items_of(self._stoppings):
            if turn.abandoned_endpoint is not None:
                stopping.stop_now()
        self._note_told()

    @guarded
    def _note_told(self) -> None:
        if isinstance(current := current_request.get(), StoppableTurn):
            current.knows = True
        for turn in list(self._stoppings):
            if turn.stop is not None:
                turn.stop.is_told = True

    @guarded  # None after a fault: the error is the server's
    def absorbs(self, error: BaseException) -> bool:
        """Returns whether `error` ends work that was stopped here, and nobody else is to get it."""
        error = unwrapped(error)
        if isinstance(error, CancelledError):
            return self.own.is_cancelled_here_alone
        return error is self.told or isinstance(error, StoppedError)

    def _look_ahead(self) -> None:
        # A server may refuse to be asked a second time while a task waits for its next message.
        if not self._messages.is_watched:
            super()._look_ahead()

    @guarded
    def work_started(self, turn: Turn) -> None:
        super().work_started(turn)
        stopping = self._stoppings.get(cast("StoppableTurn", turn))
        if stopping is not None and turn.abandoned_endpoint is not None:
            stopping.begin()

    @guarded
    def _note_client_left(self) -> None:
        super()._note_client_left()
        if self._client_left:
            for turn, stopping in items_of(self._stoppings):
                if turn.abandoned_endpoint is not None:
                    stopping.begin()

    @guarded
    def ended(self, error: BaseException | None) -> None:
        super().ended(error)
        self._messages.close()
        self.own.uncancel()
        for turn in list(self._stoppings):
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
    _late: asyncio.Task[None] | None = None
    """Cancels what goes on after the handler was told."""

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

    def tasks_to_cancel(self) -> set[_Task]:
        tasks = super().tasks_to_cancel()
        return tasks - {self.own.task} if self.request.knows else tasks

    def stop_now(self) -> None:
        """Refuses further calls now, and cancels the tasks of open ones soon.

        The current task is about to be told. What it then closes, LangGraph cancels by itself: a
        cancellation before would make two of it, and disturb the clean-up.
        """
        stop = self.request.stop
        if stop is None:
            return
        self.tell(stop)
        loop = self.own.task.get_loop()
        told = {None, current_task(), self.own.task}
        tasks = {call.task for call in stop.calls_to_stop()} - told
        tasks = {task for task in tasks if task.get_loop() is loop}
        self._late = loop.create_task(self._cancel_soon(stop, tasks), context=Context())

    @guarded_async
    async def _cancel_soon(self, stop: Stop, tasks: set[_Task]) -> None:
        await asyncio.sleep(TICK)
        stop.has_cancelled = True
        await self.cancel_all(tasks)

    async def until_interruptible(self) -> None:
        """Waits while the handler does other things than to await the run in its task.

        It is told where it next awaits the run, or sends: a cancellation would reach it elsewhere.
        """
        while not self.request.closed and self._is_elsewhere():  # noqa: ASYNC110 - code has no event
            await asyncio.sleep(TICK)

    def _is_elsewhere(self) -> bool:
        """Returns whether the server's task has an open run that it does not await now."""
        own = self.own.task
        has_run = any(root.place.task is own for root in self.open_roots())
        return has_run and not own.done() and not awaits_run(own)

    def known_answerers(self) -> set[_Task | None]:
        return {self.own.task, self.request.reader, *self.senders}

    def makes_answer(self, place: Place) -> bool:
        return place.task in self.senders or super().makes_answer(place)

    def answerer_around(self, root: Root) -> _Task | None:
        """Returns the task that makes the answer, and may await the task of `root`.

        Code that asks for the next message does not await it, and is told of the leaving there. A
        stream of events ends with the task that feeds it; then the handler's next message tells.
        """
        task = root.place.task
        if task in self.senders or root.feeds_answer:
            return task
        if self.answerer.will_know:
            return None
        reader = self.request.reader
        return self.own.task if reader is None or reader.done() else reader

    @guarded
    def _told_by(self, error: BaseException, run: AnyRun | None) -> list[BaseException]:
        if isinstance(error, CancelledError):
            root = None if run is None else self.roots.get(run)
            task = current_task() if run is None else root and root.place.task
            if task is not self.own.task or not self.own.is_cancelled_here_alone:
                return []
            self.own.uncancel()
        from starlette.websockets import WebSocketDisconnect  # noqa: PLC0415 - the application has imported it

        self.answerer.told = WebSocketDisconnect(_LEFT)
        return [self.answerer.told]
