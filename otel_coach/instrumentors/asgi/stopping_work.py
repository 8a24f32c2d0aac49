"""Stops the work of one request, or of one turn of a WebSocket, whose client has left.

The tasks that make the answer are cancelled once, from outside, so that each can clean up.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from contextvars import Context
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_coach.core.copies import items_of
from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded, guarded_async
from otel_coach.core.library_tasks import feeds_events
from otel_coach.core.stopping import Stop, StoppedError
from otel_coach.instrumentors.asgi.answering import unwrapped
from otel_coach.instrumentors.asgi.awaiting import (
    Place,
    awaits_keeper_of,
    awaits_shared_task,
    awaits_thread,
)
from otel_coach.metrics.catalogue import AI_STOPPED_RUNS
from otel_coach.metrics.labels import NO_MODEL

if TYPE_CHECKING:
    from otel_coach.core.asgi_types import Message
    from otel_coach.core.stop_rule import StopRule
    from otel_coach.core.stopping import AnyRun, StoppableRequest
    from otel_coach.instrumentors.asgi.routes import Route
    from otel_coach.instrumentors.asgi.server_task import ServerTask
    from otel_coach.metrics.recorder import Recorder

    _Task = asyncio.Task[Any]

TICK: Final = 0.02
"""Seconds between two checks of something that has no event to wait for."""
_MAX_CLEANUP: Final = 30.0
"""Seconds that cancelled tasks may take to end; then the disconnect is delivered all the same."""


class AnyExchange(Protocol):
    """The HTTP exchange or the WebSocket whose work may have to be stopped."""

    recorder: Recorder
    server_task: ServerTask

    @property
    def route(self) -> Route:
        """The matching route."""
        ...

    def watch(self) -> None:
        """Notices from now on when the client leaves, also before the application asks."""
        ...


class Root:
    """An outermost run that is open, and where it runs."""

    __slots__ = ("feeds_answer", "place", "run")

    def __init__(self, run: AnyRun) -> None:
        self.run = run
        self.place = Place(getattr(run, "task", None))
        self.feeds_answer = False
        """Whether its task feeds a stream of events that is read for the answer."""


class Stopping:
    """Is notified of the outermost runs of a request, and stops them when its client has left.

    A subclass says which tasks make the answer.
    """

    _stop_task: asyncio.Task[None] | None = None
    """Stops the work; exists once the client has left."""
    _labels: tuple[str, str, str] | None = None
    """For runs that are counted after the request's end; None before it."""

    def __init__(self, request: StoppableRequest, exchange: AnyExchange) -> None:
        self.request = request
        self.exchange = exchange
        self.recorder = exchange.recorder
        self.server_task = exchange.server_task
        self._thread = exchange.server_task.thread
        self.roots: dict[AnyRun, Root] = {}
        """The `Root` of each outermost run that is noted, by run."""
        request.watcher = self

    def rule(self) -> StopRule | None:
        """Returns how the work is stopped; None if it is not."""
        raise NotImplementedError

    def mode(self) -> str:
        """Returns the mode, where the application states none."""
        raise NotImplementedError

    def known_answering_tasks(self) -> set[_Task | None]:
        """Returns the tasks that are known to make the answer."""
        raise NotImplementedError

    def answering_task_around(self, root: Root) -> _Task | None:
        """Returns the task that makes the answer and may await the task of `root`, if any."""
        raise NotImplementedError

    def _answering_tasks(self, place: Place) -> list[_Task]:
        """Returns the running tasks that make the answer, also that of the route of `place`."""
        tasks = {place.route_task, *self.known_answering_tasks()}
        return [task for task in tasks if task is not None and not task.done()]

    def _note_feeding(self, root: Root) -> bool:
        """Notes and returns whether `root`'s task feeds events that are read for the answer.

        Otherwise its reader may be a task that was started to outlive the request.
        """
        feeder = root.place.task_in(self._thread)
        if not root.feeds_answer and feeder is not None and feeds_events(feeder):
            readers = self._answering_tasks(root.place)
            root.feeds_answer = any(awaits_keeper_of(feeder, reader) for reader in readers)
        return root.feeds_answer

    def new_stop(self, rule: StopRule) -> Stop:
        """Returns the `Stop` that each start of a run asks."""
        return Stop(rule, self._is_answering, self.count, self._thread)

    def makes_answer(self, place: Place) -> bool:
        """Returns whether the code at `place` makes the answer, as far as is known."""
        if place.task_in(self._thread) is None:
            return place.is_awaited or self._awaits_threads(place)
        return place.descends_from(self.server_task.task)

    def _awaits_threads(self, place: Place) -> bool:
        """Returns whether a task that makes the answer awaits a thread, perhaps that of `place`."""
        return not self.is_over and any(map(awaits_thread, self._answering_tasks(place)))

    @property
    def is_over(self) -> bool:
        """Whether the request has ended, or nothing of its turn has to be stopped any more."""
        return self._labels is not None

    # Notified by the request

    @guarded
    def run_started(self, run: AnyRun) -> None:
        """Notes an outermost run, in its own thread and task."""
        request = self.request
        if request.closed:
            return
        if request.stop is None:
            rule = self.rule()
            if rule is None:
                return
            request.stop = self.new_stop(rule)
        if request.stop.has_notified:
            return
        self.roots[run] = root = Root(run)
        self._note_feeding(root)  # now: later, the reader may not be awaiting its events
        if request.stop.is_on and self.makes_answer(root.place):
            request.stop.refusing_roots.add(run)  # it was not open yet in `refuse_calls`
            request.stop.stopped_roots.add(run)
        if get_ident() == self._thread:
            self._watch()
        else:
            self.server_task.task.get_loop().call_soon_threadsafe(self._watch)

    @guarded
    def run_ended(self, run: AnyRun, *, was_aborted: bool) -> None:
        """Counts an outermost run that was stopped."""
        if self.roots.pop(run, None) is not None and was_aborted and self._is_stopped(run):
            self.count()
        if self.request.closed:
            self._forget_request()

    @guarded
    def route_failed(self, error: BaseException) -> None:
        """Cancels the server's task if the stopping has ended the route in another task.

        In the server's task, a middleware awaits the route's answer: without one, it would fail.
        """
        request = self.request
        is_done = request.closed or self.server_task.is_cancelled or request.is_answering
        if not is_done and self.caused(error) and self.server_task.task is not current_task():
            self.cancel(self.server_task.task)

    @guarded
    def goes_on_though_cancelled(self, message: Message) -> bool:
        """Returns whether the current task, which was cancelled here, goes on with its stream.

        See `Stop.has_lost_cancellation`. In a task that got its cancellation and is cleaning up,
        the stopped runs have ended: such a task does not count as going on.
        """
        stop, task = self.request.stop, current_task()
        if stop is None or not stop.has_cancelled or task is None:
            return False
        is_part = message["type"] == "http.response.body" and message.get("more_body", False)
        is_stopped = is_part and self.server_task.is_cancelling(task)
        return is_stopped and any(root.run in stop.stopped_roots for root in self.open_roots())

    def caused(self, error: BaseException) -> bool:
        """Returns whether the stopping has caused `error`."""
        error = unwrapped(error)
        if isinstance(error, StoppedError):
            return True
        stop = self.request.stop
        return isinstance(error, CancelledError) and stop is not None and stop.has_cancelled

    def count(self, runs: int = 1) -> None:
        """Counts outermost runs that were stopped."""
        self.recorder.record(AI_STOPPED_RUNS, runs, self._labels or self._labels_now())

    def _is_stopped(self, run: AnyRun) -> bool:
        return self.request.stop is not None and run in self.request.stop.stopped_roots

    def _labels_now(self) -> tuple[str, str, str]:
        request = self.request
        mode = request.mode or self.mode()
        return self.exchange.route.template, request.model or NO_MODEL, mode

    def request_ended(self) -> None:
        """Notes that the request is over. Stopped runs that are still open are counted later."""
        if self._labels is None:
            self._labels = self._labels_now()
            del self.exchange  # it refers to this object: avoids a reference cycle
        self.roots = {run: root for run, root in items_of(self.roots) if self._is_stopped(run)}
        for root in list(self.roots.values()):
            root.place.let_go()
        self._forget_request()

    def _forget_request(self) -> None:
        if not self.roots:
            self.request.watcher = None  # it refers to the request: avoids a reference cycle
            if self.request.stop is not None:
                self.request.stop.let_go()

    @guarded
    def _watch(self) -> None:
        if self.request.closed or self.is_over:
            return
        if self.request.abandoned_endpoint is not None:
            self.begin()
        else:
            self.exchange.watch()

    def _is_answering(self) -> bool:
        """Returns whether the current code makes the answer, as far as is known."""
        return self.makes_answer(Place())

    # Stopping

    def begin(self) -> None:
        """Begins to stop the work, if any has begun: the client has left. May run in any thread."""
        loop = self.server_task.task.get_loop()
        if get_ident() != self._thread:
            loop.call_soon_threadsafe(self._begin)
        else:
            self._begin()

    @guarded
    def _begin(self) -> None:
        if self._stop_task is None and self.request.stop is not None:
            loop = self.server_task.task.get_loop()
            self._stop_task = loop.create_task(self._stop(), context=Context())

    async def until_stopped(self) -> None:
        """Waits until the work has been stopped, if it is to be."""
        if self._stop_task is not None:
            # If the waiting task is cancelled, `wait` leaves the other one alone.
            await asyncio.wait([self._stop_task])

    @guarded_async
    async def _stop(self) -> None:
        request, stop = self.request, self.request.stop
        assert stop is not None  # noqa: S101 # nosec B101 - `begin` has looked
        try:
            await asyncio.sleep(stop.rule.after)
            if request.closed:
                return
            self.refuse_calls(stop)
            while stop.waits_for_tools() and not request.closed:  # noqa: ASYNC110 - runs have no event
                await asyncio.sleep(TICK)
            if request.closed:
                return
            self.refuse_calls(stop)  # again: others may be open now
            await self.until_interruptible()
            if request.closed:
                return
            await self.cancel_all(self.tasks_to_cancel())
        except BaseException:
            stop.has_notified = True  # refuse no more outermost runs: their task is not cancelled
            raise

    async def until_interruptible(self) -> None:
        """Waits until the tasks may be cancelled."""

    def open_roots(self) -> list[Root]:
        return [root for root in list(self.roots.values()) if not root.run.ended]

    def refuse_calls(self, stop: Stop) -> None:
        """Refuses further calls in the runs that are open now and make the answer."""
        stop.is_on = True
        for root in self.open_roots():
            if self.makes_answer(root.place):
                stop.refusing_roots.add(root.run)
                stop.stopped_roots.add(root.run)
            elif root.place.task_in(self._thread) is not None:
                stop.stopped_roots.add(root.run)  # cancelled with a task that awaits it, if any

    def tasks_to_cancel(self) -> set[_Task]:
        """Returns the tasks that make the answer, except those that await a shared task."""
        tasks: set[_Task | None] = set()
        for root in self.open_roots():
            task = root.place.task_in(self._thread)
            if task is None:
                continue
            if root.place.descends_from(self.server_task.task):
                tasks.add(task)
                continue
            if self._note_feeding(root):
                tasks.add(task)
            tasks.add(self.answering_task_around(root))
        found = {task for task in tasks if task is not None and not task.done()}
        return {task for task in found if not awaits_shared_task(task)}

    async def cancel_all(self, tasks: set[_Task]) -> None:
        """Cancels tasks that make the answer, and waits until they have ended.

        A task that others are cancelling is cancelled here once they have uncancelled it: anyio's
        `connect_tcp` cancels and uncancels its own task when one of several attempts succeeds. A
        task that feeds events is cancelled by its library when their stream is closed, else here.
        """
        until = monotonic() + _MAX_CLEANUP
        feeders = set(filter(feeds_events, tasks))
        while tasks and (left := until - monotonic()) > 0:
            uncancelled = [task for task in tasks if task in feeders or not self.cancel(task)]
            feeders.clear()
            _, tasks = await asyncio.wait(tasks, timeout=TICK if uncancelled else left)
            if self.is_over:
                tasks.discard(self.server_task.task)  # it may be cleaning up

    def cancel(self, task: _Task) -> bool:
        """Cancels a task that makes the answer; returns False while others are cancelling it."""
        is_cancelled = self.server_task.cancel(task)
        if is_cancelled and (stop := self.request.stop) is not None:
            stop.has_cancelled = stop.has_notified = True
        return is_cancelled
