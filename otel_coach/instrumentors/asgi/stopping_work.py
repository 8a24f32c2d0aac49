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
from weakref import WeakSet

from otel_coach.core.copies import items_of
from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded, guarded_async
from otel_coach.core.stopping import Stop, StoppedError
from otel_coach.instrumentors.asgi.answering import unwrapped
from otel_coach.instrumentors.asgi.awaiting import (
    Place,
    awaits_shared_task,
    awaits_thread,
    reads_events_of,
)
from otel_coach.instrumentors.asgi.event_feeders import feeds_events
from otel_coach.metrics.catalogue import AI_STOPPED_RUNS
from otel_coach.metrics.labels import NO_MODEL

if TYPE_CHECKING:
    from otel_coach.core.asgi_types import Message
    from otel_coach.core.stop_rule import StopRule
    from otel_coach.core.stopping import AnyRun, StoppableRequest
    from otel_coach.instrumentors.asgi.routes import Route
    from otel_coach.metrics.recorder import Recorder

    _Task = asyncio.Task[Any]

TICK: Final = 0.02
"""Seconds between two looks whether the tools have ended."""
_MAX_CLEANUP: Final = 30.0
"""Seconds that cancelled tasks may take to end before the application is told all the same."""


class OwnTask:
    """The server's task, in which the application is called, and how often it is cancelled here."""

    def __init__(self, task: _Task) -> None:
        self.task = task
        self.thread = get_ident()
        """That of its event loop."""
        self._cancellations = 0
        self._cancelled: WeakSet[_Task] = WeakSet()

    @property
    def is_cancelled(self) -> bool:
        """Whether it has been cancelled here."""
        return self._cancellations > 0

    @property
    def is_cancelled_by_others(self) -> bool:
        """Whether somebody else has cancelled it, such as the server."""
        return self.task.cancelling() > self._cancellations

    @property
    def is_cancelled_here_alone(self) -> bool:
        """Whether it has been cancelled here, and by nobody else."""
        return self.is_cancelled and not self.is_cancelled_by_others

    def cancel(self, task: _Task) -> bool:
        """Cancels it, or another task of its connection, once: it may be cleaning up.

        Returns whether it has been cancelled here, now or before; not if others are cancelling it.
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

    def has_cancelled(self, task: _Task) -> bool:
        """Returns whether `task` has been cancelled here, and that has not been taken back."""
        return task in self._cancelled and task.cancelling() > 0

    def uncancel(self) -> None:
        """Takes the cancellation back, whose exception has ended here."""
        if self._cancellations:
            self._cancellations = 0
            self.task.uncancel()


class Answerer(Protocol):
    """The exchange or the WebSocket whose work may have to be stopped."""

    recorder: Recorder
    own: OwnTask

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
        """Whether its task feeds a stream of events that is known to be read for the answer."""


class Stopping:
    """Is notified of the outermost runs of a request, and stops them when its client has left.

    A subclass says which tasks make the answer.
    """

    _stopping: asyncio.Task[None] | None = None
    _labels: tuple[str, str, str] | None = None
    """Of what is counted after the request's end."""

    def __init__(self, request: StoppableRequest, answerer: Answerer) -> None:
        self.request = request
        self.answerer = answerer
        self.recorder = answerer.recorder
        self.own = answerer.own
        self._thread = answerer.own.thread
        self.roots: dict[AnyRun, Root] = {}
        request.watcher = self

    def rule(self) -> StopRule | None:
        """Returns how the work is stopped; None if it is not."""
        raise NotImplementedError

    def mode(self) -> str:
        """Returns the mode, where the application states none."""
        raise NotImplementedError

    def known_answerers(self) -> set[_Task | None]:
        """Returns the tasks that are known to make the answer."""
        raise NotImplementedError

    def answerer_around(self, root: Root) -> _Task | None:
        """Returns the task that makes the answer, and may await the task of `root`."""
        raise NotImplementedError

    def feeds_answer(self, root: Root) -> bool:
        """Returns whether the task of `root` feeds a stream of events that is read for the answer.

        A task that was started to go on may read such a stream, too.
        """
        feeder = root.place.task_in(self._thread)
        if not root.feeds_answer and feeder is not None and feeds_events(feeder):
            readers = {root.place.answering, *self.known_answerers()}
            root.feeds_answer = any(
                reads_events_of(one, feeder) for one in readers if one and not one.done()
            )
        return root.feeds_answer

    def new_stop(self, rule: StopRule) -> Stop:
        """Returns what the starts of runs ask."""
        return Stop(rule, self._is_answering, self.count)

    def makes_answer(self, place: Place) -> bool:
        """Returns whether the code at `place` makes the answer, as far as can be told."""
        if place.task_in(self._thread) is None:
            return place.is_awaited or self._awaits_threads(place)
        return place.is_below(self.own.task)

    def _awaits_threads(self, place: Place) -> bool:
        """Returns whether what makes the answer awaits a thread, perhaps that of `place`."""
        if self.is_over:
            return False
        answerers = {place.answering, *self.known_answerers()}
        return any(awaits_thread(one) for one in answerers if one is not None and not one.done())

    @property
    def is_over(self) -> bool:
        """Whether the request has ended, so that nothing makes its answer any more."""
        return self._labels is not None

    # What the request tells

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
        if request.stop.is_told:
            return
        self.roots[run] = root = Root(run)
        self.feeds_answer(root)  # what reads its events awaits the first one now
        if request.stop.is_on and self.makes_answer(root.place):
            request.stop.roots.add(run)  # it has begun since the others were told
            request.stop.told.add(run)
        if get_ident() == self._thread:
            self._watch()
        else:
            self.own.task.get_loop().call_soon_threadsafe(self._watch)

    @guarded
    def run_ended(self, run: AnyRun, *, was_aborted: bool) -> None:
        """Counts an outermost run that was stopped."""
        if self.roots.pop(run, None) is not None and was_aborted and self._is_told(run):
            self.count()
        if self.request.closed:
            self._forget_request()

    @guarded
    def route_failed(self, error: BaseException) -> None:
        """Notes what leaves the route, in its task.

        A middleware that runs the route in a task of its own waits there for its answer. That there
        is none would look like a fault of the application.
        """
        request = self.request
        is_done = request.closed or self.own.is_cancelled or request.is_answering
        if not is_done and self.made(error) and self.own.task is not current_task():
            self.cancel(self.own.task)

    @guarded
    def goes_on_though_cancelled(self, message: Message) -> bool:
        """Returns whether the current task, which was cancelled here, goes on with its stream.

        See `Stop.has_lost_cancellation`. A task that has had its cancellation, and cleans up, has
        no open run of those that are stopped.
        """
        stop, task = self.request.stop, current_task()
        if stop is None or not stop.has_cancelled or task is None:
            return False
        is_part = message["type"] == "http.response.body" and message.get("more_body", False)
        is_stopped = is_part and self.own.has_cancelled(task)
        return is_stopped and any(root.run in stop.told for root in self.open_roots())

    def made(self, error: BaseException) -> bool:
        """Returns whether `error` comes from the stopping."""
        error = unwrapped(error)
        if isinstance(error, StoppedError):
            return True
        stop = self.request.stop
        return isinstance(error, CancelledError) and stop is not None and stop.has_cancelled

    def count(self, runs: int = 1) -> None:
        """Counts outermost runs that were stopped."""
        self.recorder.record(AI_STOPPED_RUNS, runs, self._labels or self._labels_now())

    def _is_told(self, run: AnyRun) -> bool:
        return self.request.stop is not None and run in self.request.stop.told

    def _labels_now(self) -> tuple[str, str, str]:
        request = self.request
        mode = request.mode or self.mode()
        return self.answerer.route.template, request.model or NO_MODEL, mode

    def request_ended(self) -> None:
        """Notes that the request is over; what is stopped, and has not ended, is counted later."""
        if self._labels is None:
            self._labels = self._labels_now()
            del self.answerer  # it refers to this object: avoids a reference cycle
        self.roots = {run: root for run, root in items_of(self.roots) if self._is_told(run)}
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
        if self.request.closed:
            return
        if self.request.abandoned_endpoint is not None:
            self.begin()
        else:
            self.answerer.watch()

    def _is_answering(self) -> bool:
        """Returns whether the current code makes the answer, as far as can be told."""
        return self.makes_answer(Place())

    # Stopping

    def begin(self) -> None:
        """Stops the work after the grace, if any has begun: the client has left."""
        if self._stopping is None and self.request.stop is not None:
            loop = self.own.task.get_loop()
            self._stopping = loop.create_task(self._stop(), context=Context())

    async def until_stopped(self) -> None:
        """Waits until the work has been stopped, if it is to be."""
        if self._stopping is not None:
            # Whoever waits here may be cancelled without an effect on the stopping.
            await asyncio.wait([self._stopping])

    @guarded_async
    async def _stop(self) -> None:
        request, stop = self.request, self.request.stop
        assert stop is not None  # noqa: S101 # nosec B101 - `begin` has looked
        try:
            await asyncio.sleep(stop.rule.after)
            if request.closed:
                return
            self.tell(stop)
            while stop.waits_for_tools() and not request.closed:  # noqa: ASYNC110 - runs have no event
                await asyncio.sleep(TICK)
            if request.closed:
                return
            self.tell(stop)
            await self.until_interruptible()
            if request.closed:
                return
            await self.cancel_all(self.tasks_to_cancel())
        except BaseException:
            stop.is_told = True  # nothing is refused that is not stopped
            raise

    async def until_interruptible(self) -> None:
        """Waits until the tasks may be cancelled."""

    def open_roots(self) -> list[Root]:
        return [root for root in list(self.roots.values()) if not root.run.ended]

    def tell(self, stop: Stop) -> None:
        """Refuses further calls in the runs that are open now."""
        stop.is_on = True
        for root in self.open_roots():
            if self.makes_answer(root.place):
                stop.roots.add(root.run)
                stop.told.add(root.run)
            elif root.place.task_in(self._thread) is not None:
                stop.told.add(root.run)  # cancelled with the task that awaits it, if any does

    def tasks_to_cancel(self) -> set[_Task]:
        """Returns the tasks that make the answer, or await what does, and nothing of others."""
        tasks: set[_Task | None] = set()
        for root in self.open_roots():
            task = root.place.task_in(self._thread)
            if task is None:
                continue
            if root.place.is_below(self.own.task):
                tasks.add(task)
                continue
            if self.feeds_answer(root):
                tasks.add(task)
            tasks.add(self.answerer_around(root))
        found = {task for task in tasks if task is not None and not task.done()}
        return {task for task in found if not awaits_shared_task(task)}

    async def cancel_all(self, tasks: set[_Task]) -> None:
        """Cancels tasks that make the answer, and waits until they have ended.

        One that somebody else is cancelling has its turn when that is over, as it may be taken
        back: anyio cancels the task that connects when one of its attempts has succeeded. One that
        feeds a stream of events is cancelled by LangChain when that stream is closed; only if it is
        not, it is cancelled here.
        """
        until = monotonic() + _MAX_CLEANUP
        later = set(filter(feeds_events, tasks))
        while tasks and (left := until - monotonic()) > 0:
            waiting = [task for task in tasks if task in later or not self.cancel(task)]
            later.clear()
            _, tasks = await asyncio.wait(tasks, timeout=TICK if waiting else left)
            if self.is_over:
                tasks.discard(self.own.task)  # it may be cleaning up

    def cancel(self, task: _Task) -> bool:
        """Cancels a task that makes the answer; returns False while others are cancelling it."""
        is_cancelled = self.own.cancel(task)
        if is_cancelled and (stop := self.request.stop) is not None:
            stop.has_cancelled = stop.is_told = True
        return is_cancelled
