"""An exchange that stops the work of its request when the client has left.

The application is not told until the work has ended. So each task sees one CancelledError, at which
it can clean up; otherwise Starlette cancels a scope, and whatever a task awaits while it cleans up
is cancelled again.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import CancelledError
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import anyio

from otel_coach.core.guard import guarded, guarded_async
from otel_coach.core.stopping import Stop, StoppableRequest, StoppedError, answering_task
from otel_coach.instrumentors.asgi.awaiting import (
    awaits_thread,
    feeds_events,
    is_worker_of_anyio,
)
from otel_coach.instrumentors.asgi.event_loop import current_task, runs_asyncio
from otel_coach.instrumentors.asgi.exchange import Exchange, Exchanges, unwrapped
from otel_coach.instrumentors.asgi.server_messages import DISCONNECT, ServerMessages
from otel_coach.metrics.catalogue import AI_STOPPED_RUNS
from otel_coach.metrics.labels import INVOKE, NO_MODEL, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.asgi_types import Message, Receive, Scope, Send
    from otel_coach.core.stopping import AnyRun, StopRule
    from otel_coach.instrumentors.asgi.routes import Routes

    _Task = asyncio.Task[Any]

_TICK: Final = 0.02
"""Seconds between two looks whether the tools have ended."""
_MAX_CLEANUP: Final = 30.0
"""Seconds that cancelled tasks may take to end before the application is told all the same."""


class _Root:
    """An outermost run that is open, and where it runs."""

    __slots__ = ("answering", "is_awaited", "is_told", "parent_id", "run", "task", "thread")

    def __init__(self, run: AnyRun) -> None:
        self.run = run
        self.is_told = False
        self.thread = get_ident()
        self.answering: Any = answering_task.get()
        self.task: _Task | None = getattr(run, "task", None) or current_task()
        self.parent_id = None if self.task is None else anyio.get_current_task().parent_id
        """By anyio: of the task that has started this one in a task group."""
        self.is_awaited = self.task is None and is_worker_of_anyio()
        """Whether a task awaits this thread's work, as it does if Starlette runs a function."""

    def let_go(self) -> None:
        """Drops the tasks: one that was cancelled keeps what its frames have, such as a stream."""
        self.task = self.answering = None


class StoppingExchange(Exchange):
    """Adds to an exchange that the work of its request is stopped when its client has left.

    Args:
        rule_of: returns how the work of an endpoint is stopped, None if it is not.
        arguments: those of `Exchange`.
    """

    request: StoppableRequest
    _stopping: asyncio.Task[None] | None = None
    _is_own_task_cancelled = False
    _has_cancelled = False
    _sender: Any = None
    """The task that has sent the last message of the response."""

    def __init__(  # noqa: PLR0913, PLR0917 - those of `Exchange`, and the rule
        self,
        rule_of: Callable[[str], StopRule | None],
        shared: Exchanges,
        app: object,
        routes: Routes,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._rule_of = rule_of
        self._messages = None
        if runs_asyncio() and inspect.iscoroutinefunction(receive):
            self._messages = ServerMessages(receive, self._note_client_left)
            receive = self._messages.next
        super().__init__(shared, app, routes, scope, receive, send)
        first, self.request = (
            self.request,
            StoppableRequest(app, self._run_started, self._run_ended, self._route_failed),
        )
        self.request.start_of_clock = first.start_of_clock
        self.request.look_for_client = first.look_for_client
        self._roots: dict[AnyRun, _Root] = {}
        self._own_task = current_task()
        self._loop = None if self._own_task is None else asyncio.get_running_loop()

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
        error = unwrapped(error)
        if isinstance(error, StoppedError):
            return True
        if not isinstance(error, CancelledError) or self._own_task is None:
            return False
        # If the server has cancelled the task, too, it gets its CancelledError.
        return self._has_cancelled and self._own_task.cancelling() <= self._is_own_task_cancelled

    @guarded
    def _finish(self, error: BaseException | None) -> None:
        if self._messages is not None:
            self._messages.close()
        super()._finish(error)
        if self._is_own_task_cancelled and self._own_task is not None:
            self._is_own_task_cancelled = False
            self._own_task.uncancel()
        # Those that are stopped, but have not ended, are counted when they end.
        self._roots = {run: root for run, root in self._roots.items() if root.is_told}
        for root in self._roots.values():
            root.let_go()
        self.request.let_go(counts_runs=bool(self._roots))
        self._sender = None

    def _record(self) -> None:
        super()._record()
        if self.request.stop is not None:  # an alert's rate() needs the series before the first
            self.recorder.record(AI_STOPPED_RUNS, 0, self._labels())

    def _look_ahead(self) -> None:
        if self._messages is None or not self._messages.is_watched:
            super()._look_ahead()
        elif self._has_body:  # otherwise the next message may be a part of it
            self._look_beside()

    @guarded
    def _look_beside(self) -> None:
        assert self._messages is not None  # noqa: S101 # nosec B101 - for the type
        message = self._messages.step()
        if message is not None and message["type"] == DISCONNECT:
            self._note_client_left()

    @guarded
    def _note_client_left(self) -> None:
        was_here = not self._client_left
        super()._note_client_left()
        if was_here and self._client_left and self.request.stop is not None:
            self._begin()

    def _begin(self) -> None:
        if self._stopping is None and self._loop is not None:
            self._stopping = self._loop.create_task(self._stop(), context=Context())

    async def _until_stopped(self) -> None:
        if self._stopping is not None:
            # Whoever waits here may be cancelled without an effect on the stopping.
            await asyncio.wait([self._stopping])

    # Runs

    @guarded
    def _run_started(self, run: AnyRun) -> None:
        request = self.request
        if self.finished or request.closed or self._loop is None or self._messages is None:
            return
        if request.stop is None:
            rule = request.stop_rule or self._rule_of(self.route.template)
            if rule is None:
                return
            request.stop = Stop(rule, self._is_answering, self._count)
        if request.stop.is_told:
            return
        self._roots[run] = root = _Root(run)
        if request.stop.is_on and self._may_be_told(root):
            request.stop.roots.add(run)  # it has begun since the others were told
            root.is_told = True
        if get_ident() == self._thread:
            self._watch()
        else:
            self._loop.call_soon_threadsafe(self._watch)

    @guarded
    def _run_ended(self, run: AnyRun, *, was_aborted: bool) -> None:
        root = self._roots.pop(run, None)
        if root is not None and root.is_told and was_aborted:
            self._count()

    def _count(self) -> None:
        self.recorder.record(AI_STOPPED_RUNS, 1, self._labels())

    @guarded
    def _watch(self) -> None:
        if self.finished or self._messages is None:
            return
        if self._client_left:
            self._begin()
        else:
            self._messages.watch()

    def _labels(self) -> tuple[str, str, str]:
        request = self.request
        mode = request.mode or (STREAM if self._is_stream else INVOKE)
        return self.route.template, request.model or NO_MODEL, mode

    def _is_answering(self) -> bool:
        """Returns whether the current code makes the answer, as far as can be told."""
        return self._may_be_told(_Root(_NO_RUN))

    def _may_be_told(self, root: _Root) -> bool:
        if root.task is None or root.thread != self._thread:
            return root.is_awaited
        return self._is_part_of_answer(root)

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
                stop.has_cancelled = stop.is_told = True
            if tasks:
                await asyncio.wait(tasks, timeout=_MAX_CLEANUP)
        except BaseException:
            stop.is_told = True  # nothing is refused that is not stopped
            raise

    def _tell(self, stop: Stop) -> None:
        """Refuses further calls in the runs that are open now."""
        stop.is_on = True
        awaited = None
        for root in tuple(self._roots.values()):
            if root.run.ended:
                continue
            if root.task is None or root.thread != self._thread:
                if awaited is None:
                    awaited = any(map(awaits_thread, self._answerers()))
                if not (awaited or root.is_awaited):
                    continue
            elif not self._is_part_of_answer(root):
                root.is_told = True  # cancelled with the task that awaits it, if any does
                continue
            root.is_told = True
            stop.roots.add(root.run)
            _mark(root.run)

    def _tasks_to_cancel(self) -> set[_Task]:
        tasks: set[_Task] = set()
        for root in tuple(self._roots.values()):
            if root.run.ended or root.task is None or root.thread != self._thread:
                continue
            task = root.task
            if not self._is_part_of_answer(root):
                if feeds_events(task):
                    tasks.add(task)
                task = self._innermost_answerer(root)
            if task is not None and not task.done():
                tasks.add(task)
        return tasks

    @guarded
    def _route_failed(self, error: BaseException) -> None:
        """Called in the task of the route, when `error` leaves it.

        A middleware that runs the route in a task of its own waits for its answer, and would take
        it for a fault that there is none.
        """
        task = self._own_task
        is_stopped = isinstance(unwrapped(error), StoppedError) or (
            self._has_cancelled and isinstance(error, CancelledError)
        )
        if not is_stopped or self.finished or self._is_own_task_cancelled or self._status:
            return
        if task is not None and task is not current_task():
            self._cancel(task)

    def _cancel(self, task: _Task) -> None:
        self._has_cancelled = True
        if task is self._own_task:
            self._is_own_task_cancelled = True
        task.cancel()

    def _answerers(self) -> set[_Task]:
        """Returns the tasks that are known to make the answer."""
        known = {self._own_task, self._sender, self.request.streaming_task}
        known.update(root.answering for root in self._roots.values())
        return {task for task in known if task is not None and not task.done()}

    def _innermost_answerer(self, root: _Root) -> _Task | None:
        """Returns the task that makes the answer, and may await the task of `root`."""
        route = root.answering or self._own_task
        sender = self.request.streaming_task or self._sender
        if sender is not None and sender is not route and not sender.done():
            parents = _parents()
            if id(route) in _ancestors(id(sender), parents):
                return sender
        return route

    def _is_part_of_answer(self, root: _Root) -> bool:
        """Returns whether the task of `root` belongs to a task of the answer by anyio's groups."""
        known = {id(task) for task in (self._own_task, root.answering) if task is not None}
        if id(root.task) in known or root.parent_id in known:
            return True
        if root.parent_id is None:
            return False
        return not known.isdisjoint(_ancestors(root.parent_id, _parents()))


class _NoRun:
    parent = None
    ended = False
    is_tool = False


_NO_RUN: Final = _NoRun()


def _parents() -> dict[int, int | None]:
    """Returns the ids of the tasks of this event loop, each with that of its parent by anyio."""
    return {task.id: task.parent_id for task in anyio.get_running_tasks()}


def _ancestors(task: int | None, parents: dict[int, int | None]) -> set[int]:
    found: set[int] = set()
    while task is not None and task not in found:
        found.add(task)
        task = parents.get(task)
    return found


def _mark(run: Any) -> None:
    if run.span is not None and run.span.is_recording():
        run.span.set_attributes({"otel_coach.stopped": True})
