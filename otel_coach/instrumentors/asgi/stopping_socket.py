"""A WebSocket that stops the work of its turns when the client has left.

A task that answers is cancelled, as for a request. But the handler of a WebSocket expects no
CancelledError: it cleans up at the WebSocketDisconnect that its next `send` or `receive` would
raise. So where it awaits a run that was stopped, WebSocketDisconnect replaces the CancelledError.
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
from otel_coach.instrumentors.asgi.awaiting import awaits_library
from otel_coach.instrumentors.asgi.look_ahead import can_look_ahead
from otel_coach.instrumentors.asgi.server_messages import ServerMessages
from otel_coach.instrumentors.asgi.server_task import ServerTask
from otel_coach.instrumentors.asgi.stopping_work import TICK, Stopping
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
"""The close code of Starlette's WebSocketDisconnect where sending fails."""


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
    disconnect_delivered = False
    """Whether code of this turn got the disconnect."""

    def outermost_run_started(self, run: Any) -> None:
        if self.watcher is None and not self.closed:
            self.connection.watch_turn(self)
        super().outermost_run_started(run)


class StoppingConnection(Connection):
    """A connection. When its client has left, the work of its turns is stopped.

    Args:
        rule_of: as for `connection_of`.
        task: the server's task, in which the application is called.
        arguments: those of `Connection`.
    """

    _turn_class = StoppableTurn
    replacement: BaseException | None = None
    """What an awaited run raised in place of the cancellation."""

    def __init__(
        self, rule_of: Callable[[str], StopRule | None], task: _Task, *arguments: Any
    ) -> None:
        super().__init__(*arguments)
        self._rule_of = rule_of
        self.server_task = ServerTask(task)
        self._stoppings: dict[StoppableTurn, TurnStopping] = {}
        """For turns that have runs and are not recorded yet."""
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
    def has_or_awaits_disconnect(self) -> bool:
        """Whether the application got the disconnect, or gets it as the message that it awaits."""
        return self._disconnect_delivered or self._is_receiving

    async def receive(self) -> Message:
        """Returns the next message."""
        message = await super().receive()
        if self._disconnect_delivered:
            self._note_disconnect_delivered()
        return message

    async def send(self, message: Message) -> None:
        """Passes `message` on. If the client has left, the work is stopped at once."""
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
            # A server may refuse a message after the disconnect, which was read ahead here.
            if not (self._client_left and message["type"] == "websocket.send"):
                raise
            self._disconnect_delivered = True
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
        """Stops what can be stopped without waiting: the disconnect is about to be delivered."""
        for turn, stopping in items_of(self._stoppings):
            if turn.abandoned_endpoint is not None:
                stopping.stop_now()
        self._note_disconnect_delivered()

    @guarded
    def _note_disconnect_delivered(self) -> None:
        if isinstance(current := current_request.get(), StoppableTurn):
            current.disconnect_delivered = True
        for turn in list(self._stoppings):
            if turn.stop is not None:
                turn.stop.has_notified = True

    @guarded  # None after a fault: the error is the server's
    def absorbs(self, error: BaseException) -> bool:
        """Returns whether the stopping alone has caused `error`, which then goes no further."""
        error = unwrapped(error)
        if isinstance(error, CancelledError):
            return self.server_task.is_cancelled_only_here
        return error is self.replacement or isinstance(error, StoppedError)

    def _look_ahead(self) -> None:
        # A server may refuse a second `receive` while a task waits for its next message.
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
        self.server_task.uncancel()
        for turn in list(self._stoppings):
            self.forget(turn)
        self.replacement = None  # its traceback refers to the application's frames

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
    exchange: StoppingConnection
    _cancel_task: asyncio.Task[None] | None = None
    """Cancels tasks that are still running after the disconnect was delivered."""

    def __init__(self, turn: StoppableTurn, connection: StoppingConnection) -> None:
        super().__init__(turn, connection)
        self.senders: set[_Task] = set()
        """The tasks that have sent messages of this turn."""

    def rule(self) -> StopRule | None:
        return self.exchange.rule_of(self.request)

    def mode(self) -> str:
        return STREAM

    def new_stop(self, rule: StopRule) -> Stop:
        stop = super().new_stop(rule)
        stop.replace = self._replacement_for
        return stop

    @guarded
    def run_ended(self, run: AnyRun, *, was_aborted: bool) -> None:
        super().run_ended(run, was_aborted=was_aborted)
        if not self.roots and not self.request.is_ai and not self.request.closed:
            self.exchange.forget(self.request)  # the end of such a turn is not noticed otherwise
            if (stop := self.request.stop) is not None and not stop.is_on:
                self.request.stop = None  # it has let go of its turn; a further run gets a new one

    def request_ended(self) -> None:
        super().request_ended()
        self.senders.clear()

    def tasks_to_cancel(self) -> set[_Task]:
        tasks = super().tasks_to_cancel()
        return tasks - {self.server_task.task} if self.request.disconnect_delivered else tasks

    def stop_now(self) -> None:
        """Refuses further calls now, and cancels the tasks of open ones soon.

        The current task is about to get the disconnect, and may then close a graph's stream.
        LangGraph then cancels the graph's tasks. If they had been cancelled here before, that would
        be a second cancellation, and disturb their clean-up.
        """
        stop = self.request.stop
        if stop is None:
            return
        self.refuse_calls(stop)
        loop = self.server_task.task.get_loop()
        spared = {None, current_task(), self.server_task.task}
        tasks = {call.task for call in stop.calls_to_stop()} - spared
        tasks = {task for task in tasks if task.get_loop() is loop}
        self._cancel_task = loop.create_task(self._cancel_soon(stop, tasks), context=Context())

    @guarded_async
    async def _cancel_soon(self, stop: Stop, tasks: set[_Task]) -> None:
        await asyncio.sleep(TICK)
        stop.has_cancelled = True
        await self.cancel_all(tasks)

    async def until_interruptible(self) -> None:
        """Waits while the handler has a run in its task, but awaits something else.

        The handler is to get the exception where it next awaits the run, or sends.
        """
        while not self.request.closed and self._is_elsewhere():  # noqa: ASYNC110 - code has no event
            await asyncio.sleep(TICK)

    def _is_elsewhere(self) -> bool:
        """Returns whether the server's task has an open run that it does not await now."""
        task = self.server_task.task
        has_run = any(root.place.task is task for root in self.open_roots())
        return has_run and not task.done() and not awaits_library(task)

    def known_answering_tasks(self) -> set[_Task | None]:
        return {self.server_task.task, self.request.reader, *self.senders}

    def makes_answer(self, place: Place) -> bool:
        return place.task in self.senders or super().makes_answer(place)

    def answering_task_around(self, root: Root) -> _Task | None:
        """Returns the task that makes the answer and may await the task of `root`, if any.

        A handler that awaits the next message gets the disconnect there, and needs no cancellation.
        Nor does the reader of a stream of events, which ends with the task that feeds it: the
        handler's next `send` or `receive` raises.
        """
        task = root.place.task
        if task in self.senders or root.feeds_answer:
            return task
        if self.exchange.has_or_awaits_disconnect:
            return None
        reader = self.request.reader
        return self.server_task.task if reader is None or reader.done() else reader

    @guarded
    def _replacement_for(self, error: BaseException, run: AnyRun | None) -> list[BaseException]:
        if isinstance(error, CancelledError):
            root = None if run is None else self.roots.get(run)
            task = current_task() if run is None else root and root.place.task
            if task is not self.server_task.task or not self.server_task.is_cancelled_only_here:
                return []
            self.server_task.uncancel()
        from starlette.websockets import WebSocketDisconnect  # noqa: PLC0415 - the application has imported it

        self.exchange.replacement = WebSocketDisconnect(_LEFT)
        return [self.exchange.replacement]
