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
from otel_coach.core.stop_rule import DEFAULT_AFTER, StopRule, stopping_patches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otel_coach.core.asgi_types import Message

    class AnyRun(Protocol):
        """What the stopping has to know of a run."""

        parent: Any
        """The run around it, None if it is an outermost run."""
        ended: bool
        is_tool: bool
        task: Any
        """The task that waits for a call, None if none does."""

    _Replace = Callable[[BaseException, AnyRun | None], "list[BaseException] | None"]

_MAX_AFTER: Final = 86_400.0
_MAX_WAIT: Final = 60.0
"""Seconds. A refused call waits before it raises, because its exception may cancel a tool that runs
beside it. In a thread it waits until such tools have ended, for this long at most; in a task until
the task is cancelled, for this long at most, or longer while such a tool runs."""
_TICK: Final = 0.02


class StoppedError(BaseException):
    """Raised instead of a call of a model or a tool in a thread whose work otel-coach has stopped.

    `except Exception` does not catch it, so no retry, no fallback and no error handler of an
    application or of LangChain goes on, while `finally` cleans up. It is no CancelledError: in a
    thread, LangGraph takes that one for a failure of the node.
    """


class Stop:
    """The state of stopping one request's work. Each run that starts asks it, in any thread.

    Args:
        rule: how the work is stopped.
        makes_answer: returns whether the current code makes the answer.
        on_refusal: called when an outermost run is refused, which therefore never begins.
        thread: that of the request's event loop.
    """

    def __init__(
        self,
        rule: StopRule,
        makes_answer: Callable[[], bool],
        on_refusal: Callable[[], None],
        thread: int,
    ) -> None:
        self.rule = rule
        self._makes_answer = makes_answer
        self._on_refusal = on_refusal
        self.thread = thread
        self.is_on = False
        """Whether calls are refused."""
        self.has_cancelled = False
        """Whether tasks that make the answer have been cancelled."""
        self.has_notified = False
        """Whether the application knows that the client has left: by the disconnect, a cancellation
        or a refused outermost run. Outermost runs that it then starts are not refused."""
        self.stopped_roots: set[AnyRun] = set()
        """The outermost runs that are stopped: their calls are refused, or a task that awaits them
        is cancelled."""
        self.refusing_roots: set[AnyRun] = set()
        """Those of them in which calls are refused."""
        self.replace: _Replace | None = None
        """Takes the exception with which an outermost run ends, and that run, or None for whichever
        run the current task awaits. Returns a list with the exception that the application gets
        instead, if any."""
        self._calls: set[AnyRun] = set()
        """Calls of models, retrievers and tools: all that are open, and some that have ended."""

    def let_go(self) -> None:
        """Drops what refers to the request, which has ended: nothing makes its answer any more."""
        self._makes_answer = bool
        self._on_refusal = _nothing
        self.replace = None

    def call_started(self, run: AnyRun) -> None:
        """Notes a call of a model, a retriever or a tool."""
        self._calls.difference_update(call for call in list(self._calls) if call.ended)
        self._calls.add(run)

    def _open_calls(self) -> list[AnyRun]:
        return [call for call in list(self._calls) if not call.ended]

    def calls_to_stop(self) -> list[AnyRun]:
        """Returns the calls that are open in the runs that are stopped."""
        return [call for call in self._open_calls() if self.refuses(call, is_outermost=False)]

    def waits_for_tools(self) -> bool:
        """Returns whether a tool is running that has to end before tasks are cancelled."""
        return not self.rule.tools and any(call.is_tool for call in self._open_calls())

    def refuses(self, parent: AnyRun | None, *, is_outermost: bool) -> bool:
        """Returns whether a call is refused.

        By the refusal of an outermost call, the application knows that the client has left.

        Args:
            parent: the open run around it, None if there is none.
            is_outermost: whether no run is around it, not even one that has ended.
        """
        if not self.is_on:
            return False
        if is_outermost:
            if self.has_notified or not self._makes_answer():
                return False
            self.has_notified = True
            self._on_refusal()
            return True
        if parent is None:
            # The run around it has ended. A thread then works for nobody; a task may have been
            # started to outlive the request.
            return threading.get_ident() != self.thread
        run: Any = parent
        while True:
            if run.is_tool and not self.rule.tools:
                return False  # a part of a tool that may end
            if run.parent is None:
                return run in self.refusing_roots
            run = run.parent

    def has_lost_cancellation(self, run: AnyRun) -> bool:
        """Returns whether the current task was cancelled and goes on with `run`, which is stopped.

        Until Python 3.12, `asyncio.wait_for` loses a cancellation that comes together with the
        result. Integrations of LangChain wait in this way for each chunk of a stream.
        """
        task = current_task()
        return task is not None and task.cancelling() > 0 and self.covers(run)

    def covers(self, run: AnyRun) -> bool:
        """Returns whether `run` is an outermost run that is stopped, or a part of one."""
        while run.parent is not None:
            run = run.parent
        return run in self.stopped_roots


def _nothing() -> None:
    """Does nothing."""


async def refuse_async(stop: Stop, *, is_outermost: bool) -> NoReturn:
    """Refuses a call in a task: waits for the task's cancellation, which is about to come.

    An exception before that would make a graph cancel what runs beside this, also a tool, and
    LangGraph would take it for an error of the node.

    Raises:
        StoppedError: the task was not cancelled; an outermost call may raise a replacement.
    """
    until = monotonic() + _MAX_WAIT
    while not stop.has_notified and (stop.waits_for_tools() or monotonic() < until):  # noqa: ASYNC110 - a run has no event to wait for
        await asyncio.sleep(_TICK)
    raise _refusal(stop, is_outermost=is_outermost)


def refuse(stop: Stop, *, is_outermost: bool) -> NoReturn:
    """Refuses a call in a thread, when the tools beside it have ended.

    Raises:
        StoppedError: always, except that an outermost call may raise a replacement.
    """
    until = monotonic() + _MAX_WAIT
    while threading.get_ident() != stop.thread and stop.waits_for_tools() and monotonic() < until:
        sleep(_TICK)
    raise _refusal(stop, is_outermost=is_outermost)


def _refusal(stop: Stop, *, is_outermost: bool) -> BaseException:
    refusal = StoppedError()
    replacement = replacement_for(refusal, stop) if is_outermost else []
    return replacement.pop() if replacement else refusal


def replacement_for(
    error: BaseException, stop: Stop | None, run: AnyRun | None = None
) -> list[BaseException]:
    """Returns a list with the exception that the application gets instead of `error`, if any.

    Raise it by `raise replacement.pop() from error`. The exception's traceback refers to the frame;
    a frame that still referred to the exception would form a cycle with it.

    Args:
        error: ends an outermost run.
        stop: the stopping of the current request's work, None if it is not to be stopped.
        run: that run; None if it is what the current task awaits.
    """
    if stop is None or stop.replace is None:
        return []
    if not (stop.is_on and isinstance(error, asyncio.CancelledError | StoppedError)):
        return []
    return stop.replace(error, run) or []


async def await_outermost(answer: Awaitable[Any]) -> Any:
    """Awaits an outermost call; if it was stopped, raises the replacement of its exception."""
    try:
        return await answer
    except BaseException as error:
        if replacement := replacement_for(error, current_stop()):
            raise replacement.pop() from error
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
    """None before the first outermost run, and if the request's work is not to be stopped."""
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
        """Marks the span of `run`, if the run was stopped."""
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


route_task: ContextVar[object] = ContextVar("otel_coach_route_task", default=None)
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
        pass  # a response that is returned from the block is streamed only after the block


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
        misplaced: no argument is allowed here; it exists for the TypeError below.
        after: seconds that the client must have been gone.
        tools: whether tools that have begun are stopped, too.

    Raises:
        ValueError: `after` is no number of seconds between 0 and 86,400.
        TypeError: there is a positional argument, such as the function of a decorator without
            parentheses.
    """
    if misplaced:
        message = (
            "stop_abandoned takes after=... and tools=... only, and needs its parentheses: "
            "@stop_abandoned()"
        )
        raise TypeError(message)
    if not isinstance(after, int | float) or not 0 <= after <= _MAX_AFTER:  # pyright: ignore[reportUnnecessaryIsInstance] - may be untyped code
        message = f"stop_abandoned(after={after!r}) is no number of seconds up to {_MAX_AFTER:g}"
        raise ValueError(message)
    stopping_patches.apply()
    return StopAbandoned(StopRule(after, tools))
