"""Stopping the work of requests whose client has left, where an operator asks for it.

The ASGI middleware notices that the client has left, and cancels the tasks that make the answer.
Code in worker threads cannot be cancelled: the next call of a model or a tool is refused there.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn, Protocol

from otel_coach.core.around import Around
from otel_coach.core.event_loop import current_task
from otel_coach.core.request_context import Request, current_request
from otel_coach.core.stop_rule import DEFAULT_AFTER, StopRule, wishes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otel_coach.core.asgi_types import Message

    class AnyRun(Protocol):
        """What is needed of a run."""

        parent: Any
        """The run around it, None if it is an outermost run."""
        ended: bool
        is_tool: bool
        task: Any
        """The task that waits for a call, None if none does."""

    _ToldBy = Callable[[BaseException, AnyRun | None], "list[BaseException] | None"]

_MAX_AFTER: Final = 86_400.0
_MAX_WAIT: Final = 60.0
"""Seconds that a refused call waits for a tool beside it, which its exception may cancel."""
_TICK: Final = 0.02


class StoppedError(BaseException):
    """Raised instead of a call of a model or a tool in a thread whose work otel-coach has stopped.

    `except Exception` does not catch it, so no retry, no fallback and no error handler of an
    application or of LangChain goes on, while `finally` cleans up. It is no CancelledError: in a
    thread, LangGraph takes that one for a failure of the node.
    """


class Stop:
    """The stopping of one request's work: asked by each start of a run in it, from any thread."""

    def __init__(
        self, rule: StopRule, is_of_answer: Callable[[], bool], refused: Callable[[], None]
    ) -> None:
        self.rule = rule
        self._refused = refused
        """Called when an outermost run is refused, which so never begins."""
        self._is_of_answer = is_of_answer
        """Whether the current code makes the answer."""
        self.thread = threading.get_ident()
        """The event loop's thread."""
        self.is_on = False
        """Whether calls are refused."""
        self.has_cancelled = False
        """Whether the tasks have been cancelled."""
        self.is_told = False
        """Whether the application knows that the client has left: what it starts is its matter."""
        self.roots: set[AnyRun] = set()
        """The outermost runs whose further calls are refused."""
        self.told: set[AnyRun] = set()
        """These, and the outermost runs that are cancelled with a task that awaits them."""
        self.told_by: _ToldBy | None = None
        """Takes the exception with which an outermost run ends, and the run (None: what the current
        task awaits). Returns the exception that the application gets in its place, if any."""
        self._calls: set[AnyRun] = set()
        """Those of models, retrievers and tools that are open, and some that have ended."""

    def let_go(self) -> None:
        """Drops what refers to the request, which has ended: nothing makes its answer any more."""
        self._is_of_answer = bool
        self._refused = _nothing
        self.told_by = None

    def call_started(self, run: AnyRun) -> None:
        """Notes a call of a model, a retriever or a tool; a tool may have to end first."""
        self._calls.difference_update(call for call in list(self._calls) if call.ended)
        self._calls.add(run)

    def _open_calls(self) -> list[AnyRun]:
        return [call for call in list(self._calls) if not call.ended]

    def calls_to_stop(self) -> list[AnyRun]:
        """Returns the calls that are open in the runs that are stopped."""
        return [call for call in self._open_calls() if self.refuses(call, is_outermost=False)]

    def waits_for_tools(self) -> bool:
        """Returns whether a tool that has begun is let end first."""
        return not self.rule.tools and any(call.is_tool for call in self._open_calls())

    def refuses(self, parent: AnyRun | None, *, is_outermost: bool) -> bool:
        """Returns whether a call is refused.

        Args:
            parent: the open run around it, None if there is none.
            is_outermost: whether no run is around it, not even one that has ended.
        """
        if not self.is_on:
            return False
        if is_outermost:
            if self.is_told or not self._is_of_answer():
                return False
            self.is_told = True
            self._refused()
            return True
        if parent is None:
            # A thread that nobody waits for any more. A task may have been started to go on.
            return threading.get_ident() != self.thread
        run: Any = parent
        while True:
            if run.is_tool and not self.rule.tools:
                return False  # a part of a tool that is let end
            if run.parent is None:
                return run in self.roots
            run = run.parent

    def has_lost_cancellation(self, run: AnyRun) -> bool:
        """Returns whether the current task goes on with `run`, though somebody has cancelled it.

        Only runs that are stopped are meant, so none before the stopping is on.

        Until Python 3.12, `asyncio.wait_for` loses a cancellation that comes together with the
        result. Integrations of LangChain wait so for each chunk of a stream.
        """
        task = current_task()
        return task is not None and task.cancelling() > 0 and self.covers(run)

    def covers(self, run: AnyRun) -> bool:
        """Returns whether `run` is, or is a part of, an outermost run that is stopped."""
        while run.parent is not None:
            run = run.parent
        return run in self.told


def _nothing() -> None:
    """Does nothing."""


async def refuse_async(stop: Stop, *, is_outermost: bool) -> NoReturn:
    """Refuses a call in a task, which is about to be cancelled.

    An exception before that would make a graph cancel what runs beside this, also a tool, and
    LangGraph would take it for an error of the node.

    Raises:
        StoppedError: the task was not cancelled; an outermost call may raise `Stop.told_by`'s.
    """
    until = monotonic() + _MAX_WAIT
    while not stop.is_told and (stop.waits_for_tools() or monotonic() < until):  # noqa: ASYNC110 - a run has no event to wait for
        await asyncio.sleep(_TICK)
    raise _refusal(stop, is_outermost=is_outermost)


def refuse(stop: Stop, *, is_outermost: bool) -> NoReturn:
    """Refuses a call in a thread, when the tools beside it have ended.

    Raises:
        StoppedError: always, but for an outermost call, which may raise `Stop.told_by`'s.
    """
    until = monotonic() + _MAX_WAIT
    while threading.get_ident() != stop.thread and stop.waits_for_tools() and monotonic() < until:
        sleep(_TICK)
    raise _refusal(stop, is_outermost=is_outermost)


def _refusal(stop: Stop, *, is_outermost: bool) -> BaseException:
    refusal = StoppedError()
    told = told_instead(stop, refusal) if is_outermost else []
    return told.pop() if told else refusal


def told_instead(
    stop: Stop | None, error: BaseException, run: AnyRun | None = None
) -> list[BaseException]:
    """Returns the exception to raise instead of `error`, in a list; an empty list if there is none.

    To be raised by `raise told.pop() from error`: a frame that kept the exception, whose traceback
    keeps the frame, would leave both to the garbage collector.

    Args:
        stop: the stopping of the current request's work, if it is to be stopped.
        error: ends an outermost run.
        run: that run; None if it is what the current task awaits.
    """
    if stop is None or stop.told_by is None:
        return []
    if not (stop.is_on and isinstance(error, asyncio.CancelledError | StoppedError)):
        return []
    return stop.told_by(error, run) or []


async def told_if_stopped(answer: Awaitable[Any]) -> Any:
    """Awaits an outermost call; if it was stopped, raises what the application gets instead."""
    try:
        return await answer
    except BaseException as error:
        if told := told_instead(current_stop(), error):
            raise told.pop() from error
        raise


class Watcher(Protocol):
    """Is notified of the outermost runs of a request, and of what leaves its route."""

    def run_started(self, run: AnyRun) -> None:
        """Called in the thread and the task of the run."""
        ...

    def run_ended(self, run: AnyRun, *, was_aborted: bool) -> None:
        """Called in any thread."""
        ...

    def route_failed(self, error: BaseException) -> None:
        """Called in the task of the route."""
        ...

    def goes_on_though_cancelled(self, message: Message) -> bool | None:
        """Called in the task that sends `message`."""
        ...


class StoppableRequest(Request):
    """A request whose work can be stopped."""

    stop_rule: StopRule | None = None
    """From a `stop_abandoned` block; None outside of any."""
    streaming_task: Any = None
    """The task that sends the chunks of a streamed response."""
    stop: Stop | None = None
    """Exists from the first outermost run on, if the request's work is to be stopped."""
    watcher: Watcher | None = None
    """Notified of the runs and of the route."""

    def outermost_run_started(self, run: Any) -> None:
        """Notes that a run without a parent started."""
        super().outermost_run_started(run)
        if self.watcher is not None:
            self.watcher.run_started(run)

    def outermost_run_ended(self, run: Any, *, failed: bool, was_aborted: bool) -> None:
        """Notes that a run without a parent ended."""
        super().outermost_run_ended(run, failed=failed, was_aborted=was_aborted)
        if self.watcher is not None:
            self.watcher.run_ended(run, was_aborted=was_aborted)

    def run_aborted(self, run: Any) -> None:
        """Notes on the span of a run that was stopped that it was."""
        stop, span = self.stop, run.span
        if stop is not None and stop.is_on and stop.covers(run) and span is not None:
            span.set_attributes({"otel_coach.stopped": True})

    def route_failed(self, error: BaseException) -> None:
        """Notes what leaves the route, in its task."""
        if self.watcher is not None:
            self.watcher.route_failed(error)

    def goes_on_though_cancelled(self, message: Message) -> bool:
        """Returns whether the current task, which was cancelled, streams on with `message`."""
        return self.watcher is not None and bool(self.watcher.goes_on_though_cancelled(message))


answering_task: ContextVar[object] = ContextVar("otel_coach_answering_task", default=None)
"""The task in which the route of the current request runs."""


def current_stop() -> Stop | None:
    """Returns the stopping of the current request's work, None if it is not to be stopped."""
    request = current_request.get()
    return request.stop if isinstance(request, StoppableRequest) else None


class StopAbandoned(Around):
    """A context manager and decorator: the request's work is stopped if its client leaves."""

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule

    def __enter__(self) -> None:
        if isinstance(request := current_request.get(), StoppableRequest):
            request.stop_rule = self._rule

    def __exit__(self, *_raised: object) -> None:
        pass  # a response that is returned from the block is made after it


def stop_abandoned(
    *misplaced: Never, after: float = DEFAULT_AFTER, tools: bool = False
) -> StopAbandoned:
    """Stops the AI work of a request whose client leaves, as OTEL_COACH_STOP_ABANDONED does.

    A context manager and a decorator, for sync and async code::

        @app.post("/chat")
        @otel_coach.stop_abandoned()
        async def chat(question: Question): ...

    It applies from the first such block of a request to the request's end, so also to a response
    that is returned from the block. Work that began before is not stopped. Make the object when the
    module is imported, as a decorator does: requests that were accepted before the first call of
    this function are not stopped. docs/abandoned.md says what stopping means.

    Args:
        misplaced: nothing; type checkers and the TypeError say so.
        after: seconds that the client must have been gone.
        tools: whether tools that have begun are stopped, too.

    Raises:
        ValueError: `after` is negative, or no number.
        TypeError: there is a positional argument, such as the function of a decorator without
            parentheses.
    """
    if misplaced:
        message = (
            "stop_abandoned takes after=... and tools=... only, and needs its parentheses: "
            "@stop_abandoned()"
        )
        raise TypeError(message)
    if not 0 <= after <= _MAX_AFTER:
        message = f"stop_abandoned(after={after!r}) is not between 0 and {_MAX_AFTER:g} seconds"
        raise ValueError(message)
    wishes.want()
    return StopAbandoned(StopRule(after, tools))
