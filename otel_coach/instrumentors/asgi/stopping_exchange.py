"""An exchange that stops the work of its request when the client has left.

The application is not told until the work has ended. So each task sees one CancelledError, at which
it can clean up; otherwise Starlette cancels a scope, and whatever a task awaits while it cleans up
is cancelled again.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded, guarded_async
from otel_coach.core.stopping import Stop, StoppableRequest, StoppedError
from otel_coach.instrumentors.asgi.answering import unwrapped
from otel_coach.instrumentors.asgi.awaiting import Place, awaits_thread, feeds_events, is_child
from otel_coach.instrumentors.asgi.exchange import Exchange
from otel_coach.instrumentors.asgi.look_ahead import DISCONNECT, can_look_ahead
from otel_coach.instrumentors.asgi.server_messages import ServerMessages
from otel_coach.metrics.catalogue import AI_STOPPED_RUNS
from otel_coach.metrics.labels import INVOKE, NO_MODEL, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.asgi_types import Message
    from otel_coach.core.stopping import AnyRun, StopRule

    _Task = asyncio.Task[Any]

_TICK: Final = 0.02
"""Seconds between two looks whether the tools have ended."""
_MAX_CLEANUP: Final = 30.0
"""Seconds that cancelled tasks may take to end before the application is told all the same."""


class _Root:
    """An outermost run that is open, and where it runs."""

    __slots__ = ("is_told", "place", "run")

    def __init__(self, run: AnyRun) -> None:
        self.run = run
        self.place = Place(getattr(run, "task", None))
        self.is_told = False


def exchange_of(rule_of: Callable[[str], StopRule | None], *arguments: Any) -> Exchange:
    """Returns an exchange whose work can be stopped; outside of asyncio, an ordinary one.

    `rule_of` returns how the work of an endpoint is stopped, None if it is not; `arguments` are
    those of `Exchange`.
    """
    *_, receive, _send = arguments
    task = current_task() if can_look_ahead(receive) else None
    return Exchange(*arguments) if task is None else StoppingExchange(rule_of, task, *arguments)


class StoppingExchange(Exchange):
    """Adds to an exchange that the work of its request is stopped when its client has left.

    Args:
        rule_of: as for `exchange_of`.
        task: the server's task, in which the application is called.
        arguments: those of `Exchange`.
    """

    request: StoppableRequest
    _request_class = StoppableRequest
    _stopping: asyncio.Task[None] | None = None
    _is_own_task_cancelled = False
    _sender: _Task | None = None
    """The task that has sent the last message of the response."""

    def __init__(
        self, rule_of: Callable[[str], StopRule | None], task: _Task, *arguments: Any
    ) -> None:
        super().__init__(*arguments)
        self._rule_of = rule_of
        self._own_task = task
        self._messages = ServerMessages(self._receive, self._note_client_left)
        self._receive = self._messages.next
        self._roots: dict[AnyRun, _Root] = {}
        self.request.watcher = self

    async def receive(self) -> Message:
        """Returns the server's next message; a disconnect only when the work has been stopped."""
        message = await super().receive()
        if message["type"] == DISCONNECT:
            await self._until_stopped()
            if self.request.stop is not None:
                self.request.stop.is_told = True
        return message

    async def send(self, message: Message) -> None:
        """Passes `message` on; that the client has left is told when the work has been stopped."""
        self._sender = current_task()
        try:
            await super().send(message)
        except OSError:
            await self._until_stopped()
            raise

    @guarded  # None after a fault: the error is the server's
    def absorbs(self, error: BaseException) -> bool:
        """Returns whether `error` ends work that was stopped here, and nobody else is to get it."""
        # If the server has cancelled the task, too, it gets its CancelledError.
        by_server = self._own_task.cancelling() > self._is_own_task_cancelled
        return self._is_of_stopping(error) and not (by_server and isinstance(error, CancelledError))

    def _is_of_stopping(self, error: BaseException) -> bool:
        error = unwrapped(error)
        if isinstance(error, StoppedError):
            return True
        stop = self.request.stop
        return isinstance(error, CancelledError) and stop is not None and stop.has_cancelled

    @guarded
    def _finish(self, error: BaseException | None) -> None:
        self._messages.close()
        super()._finish(error)
        if self._is_own_task_cancelled:
            self._is_own_task_cancelled = False
            self._own_task.uncancel()
        # Those that are stopped, but have not ended, are counted when they end.
        self._roots = {run: root for run, root in self._roots.items() if root.is_told}
        for root in self._roots.values():
            root.place.let_go()
        self._sender = self.request.streaming_task = None
        self._forget_request()

    def _forget_request(self) -> None:
        if not self._roots:
            self.request.watcher = None  # it refers to this exchange: avoids a reference cycle

    def _record(self) -> None:
        super()._record()
        if self.request.stop is not None:  # an alert's rate() needs the series before the first
            self._count(0)

    def _look_ahead(self) -> None:
        if not self._messages.is_watched:
            super()._look_ahead()
        elif self._has_body:  # otherwise the next message may be a part of it
            self._look_beside()

    @guarded
    def _look_beside(self) -> None:
        message = self._messages.now()
        if message is not None and message["type"] == DISCONNECT:
            self._note_client_left()

    @guarded
    def _note_client_left(self) -> None:
        super()._note_client_left()
        if self._client_left and self.request.stop is not None:
            self._begin()

    def _begin(self) -> None:
        if self._stopping is None:
            loop = self._own_task.get_loop()
            self._stopping = loop.create_task(self._stop(), context=Context())

    async def _until_stopped(self) -> None:
        if self._stopping is not None:
            # Whoever waits here may be cancelled without an effect on the stopping.
            await asyncio.wait([self._stopping])

    # What the request tells

    @guarded
    def run_started(self, run: AnyRun) -> None:
        """Notes an outermost run, in its own thread and task."""
        request = self.request
        if self.finished or request.closed:
            return
        if request.stop is None:
            rule = request.stop_rule or self._rule_of(self.route.template)
            if rule is None:
                return
            request.stop = Stop(rule, self._is_answering, self._count)
        if request.stop.is_told:
            return
        self._roots[run] = root = _Root(run)
        if request.stop.is_on and self._makes_answer(root.place):
            request.stop.roots.add(run)  # it has begun since the others were told
            root.is_told = True
        if get_ident() == self._thread:
            self._watch()
        else:
            self._own_task.get_loop().call_soon_threadsafe(self._watch)

    @guarded
    def run_ended(self, run: AnyRun, *, was_aborted: bool) -> None:
        """Counts an outermost run that was stopped."""
        root = self._roots.pop(run, None)
        if root is not None and root.is_told and was_aborted:
            self._count()
        if self.finished:
            self._forget_request()

    @guarded
    def route_failed(self, error: BaseException) -> None:
        """Notes what leaves the route, in its task.

        A middleware that runs the route in a task of its own waits for its answer, and would take
        it for a fault that there is none.
        """
        is_done = self.finished or self._is_own_task_cancelled or self._status is not None
        if not is_done and self._is_of_stopping(error) and self._own_task is not current_task():
            self._cancel(self._own_task)

    def _count(self, runs: int = 1) -> None:
        request = self.request
        mode = request.mode or (STREAM if self._is_stream else INVOKE)
        labels = (self.route.template, request.model or NO_MODEL, mode)
        self.recorder.record(AI_STOPPED_RUNS, runs, labels)

    @guarded
    def _watch(self) -> None:
        if self.finished:
            return
        if self._client_left:
            self._begin()
        else:
            self._messages.watch()

    def _is_answering(self) -> bool:
        """Returns whether the current code makes the answer, as far as can be told."""
        return self._makes_answer(Place())

    def _makes_answer(self, place: Place) -> bool:
        if place.task_in(self._thread) is None:
            return place.is_awaited
        return place.is_below(self._own_task)

    # Stopping

    @guarded_async
    async def _stop(self) -> None:
        stop = self.request.stop
        assert stop is not None  # noqa: S101 # nosec B101 - `_begin` is called with one only
        try:
            await asyncio.sleep(stop.rule.after)
            if self.finished:
                return
            self._tell(stop)
            while stop.waits_for_tools() and not self.finished:  # noqa: ASYNC110 - runs have no event
                await asyncio.sleep(_TICK)
            if self.finished:
                return
            self._tell(stop)
            tasks = self._tasks_to_cancel()
            for task in tasks:
                self._cancel(task)
            if tasks:
                await asyncio.wait(tasks, timeout=_MAX_CLEANUP)
        except BaseException:
            stop.is_told = True  # nothing is refused that is not stopped
            raise

    def _open_roots(self) -> list[_Root]:
        return [root for root in tuple(self._roots.values()) if not root.run.ended]

    def _tell(self, stop: Stop) -> None:
        """Refuses further calls in the runs that are open now."""
        stop.is_on = True
        roots = self._open_roots()
        in_threads = any(map(awaits_thread, self._answerers(roots)))
        for root in roots:
            is_in_loop = root.place.task_in(self._thread) is not None
            if self._makes_answer(root.place) or (in_threads and not is_in_loop):
                root.is_told = True
                stop.roots.add(root.run)
                _mark(root.run)
            elif is_in_loop:
                root.is_told = True  # cancelled with the task that awaits it, if any does

    def _tasks_to_cancel(self) -> set[_Task]:
        tasks: set[_Task] = set()
        for root in self._open_roots():
            task = root.place.task_in(self._thread)
            if task is None:
                continue
            if root.place.is_below(self._own_task):
                tasks.add(task)
                continue
            if feeds_events(task):
                tasks.add(task)
            tasks.add(self._innermost_answerer(root.place))
        return {task for task in tasks if not task.done()}

    def _cancel(self, task: _Task) -> None:
        if (stop := self.request.stop) is not None:
            stop.has_cancelled = stop.is_told = True
        if task is self._own_task:
            self._is_own_task_cancelled = True
        task.cancel()

    def _answerers(self, roots: list[_Root]) -> set[_Task]:
        """Returns the tasks that are known to make the answer."""
        known = {self._own_task, self._sender, self.request.streaming_task}
        known.update(root.place.answering for root in roots)
        return {task for task in known if task is not None and not task.done()}

    def _innermost_answerer(self, place: Place) -> _Task:
        """Returns the task that makes the answer, and may await the task of `place`."""
        route: _Task = place.answering or self._own_task
        sender = self.request.streaming_task or self._sender
        is_inside = sender is not None and not sender.done() and is_child(sender, route)
        return sender if sender is not None and is_inside else route


def _mark(run: Any) -> None:
    if run.span is not None and run.span.is_recording():
        run.span.set_attributes({"otel_coach.stopped": True})
