"""Stopping the work of requests whose client has left, where an operator asks for it.

The ASGI middleware notices that the client has left, and cancels the tasks that make the answer.
Code in worker threads cannot be cancelled: the next call of a model or a tool is refused there.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from otel_coach.core.around import Around
from otel_coach.core.request_context import Request, current_request

if TYPE_CHECKING:
    from collections.abc import Callable

    class AnyRun(Protocol):
        """What is needed of a run."""

        parent: Any
        """The run around it, None if it is an outermost run."""
        ended: bool
        is_tool: bool


DEFAULT_AFTER: Final = 0.2


class StoppedError(BaseException):
    """Raised instead of a call of a model or a tool in a thread whose work otel-coach has stopped.

    `except Exception` does not catch it, so no retry, no fallback and no error handler of an
    application or of LangChain goes on, while `finally` cleans up. It is no CancelledError: in a
    thread, LangGraph takes that one for a failure of the node.
    """


class StopRule(NamedTuple):
    """How the work of a request is stopped."""

    after: float = DEFAULT_AFTER
    """Seconds that the client has been gone before."""
    tools: bool = False
    """Whether tools that have begun are stopped, too."""


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
        """The outermost runs that are stopped."""
        self._tools: list[AnyRun] = []

    def tool_started(self, run: AnyRun) -> None:
        """Notes a tool, which may have to end first."""
        self._tools.append(run)

    def waits_for_tools(self) -> bool:
        """Returns whether a tool that has begun is let end first."""
        self._tools = [run for run in self._tools if not run.ended]
        return bool(self._tools) and not self.rule.tools

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


class StoppableRequest(Request):
    """A request whose work can be stopped."""

    stop_rule: StopRule | None = None
    """From a `stop_abandoned` block; None outside of any."""
    streaming_task: Any = None
    """The task that sends the chunks of a streamed response."""
    stop: Stop | None = None
    """Exists from the first outermost run on, if the request's work is to be stopped."""

    def __init__(
        self,
        application: object,
        run_started: Callable[[AnyRun], None],
        run_ended: Callable[..., None],
        route_failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(application)
        self._run_started: Callable[[AnyRun], None] | None = run_started
        self._run_ended: Callable[..., None] | None = run_ended
        self.route_failed: Callable[[BaseException], None] | None = route_failed
        """Called with what leaves the route, in its task."""

    def outermost_run_started(self, run: Any) -> None:
        """Notes that a run without a parent started."""
        super().outermost_run_started(run)
        if self._run_started is not None:
            self._run_started(run)

    def outermost_run_ended(self, run: Any, *, failed: bool, was_aborted: bool) -> None:
        """Notes that a run without a parent ended."""
        super().outermost_run_ended(run, failed=failed, was_aborted=was_aborted)
        if self._run_ended is not None:
            self._run_ended(run, was_aborted=was_aborted)

    def let_go(self, *, counts_runs: bool) -> None:
        """Drops what refers to the exchange, at its end: avoids a reference cycle."""
        self._run_started = self.route_failed = None
        self.streaming_task = None
        if not counts_runs:
            self._run_ended = None


answering_task: ContextVar[object] = ContextVar("otel_coach_answering_task", default=None)
"""The task in which the route of the current request runs."""


def current_stop() -> Stop | None:
    """Returns the stopping of the current request's work, None if it is not to be stopped."""
    request = current_request.get()
    return request.stop if isinstance(request, StoppableRequest) else None


# Whether anything may ever have to be stopped in this process


class Wishes:
    """Calls back when the first code of the process asks for stopping; patches nothing before."""

    def __init__(self) -> None:
        self._is_wanted = False
        self._waiting: list[Callable[[], None]] = []

    def want(self) -> None:
        """Calls all that wait, once."""
        self._is_wanted = True
        while self._waiting:
            self._waiting.pop()()

    def when_wanted(self, begin: Callable[[], None]) -> Callable[[], None]:
        """Calls `begin` now, or at the first wish; returns a function that takes that back."""
        if self._is_wanted:
            begin()
        else:
            self._waiting.append(begin)

        def undo() -> None:
            if begin in self._waiting:
                self._waiting.remove(begin)

        return undo


wishes: Final = Wishes()


class StopAbandoned(Around):
    """A context manager and decorator: the request's work is stopped if its client leaves."""

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule

    def __enter__(self) -> None:
        if isinstance(request := current_request.get(), StoppableRequest):
            request.stop_rule = self._rule

    def __exit__(self, *_raised: object) -> None:
        pass  # a response that is returned from the block is made after it


def stop_abandoned(*, after: float = DEFAULT_AFTER, tools: bool = False) -> StopAbandoned:
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
        after: seconds that the client must have been gone.
        tools: whether tools that have begun are stopped, too.

    Raises:
        ValueError: `after` is negative, or no number.
    """
    if not 0 <= after <= _MAX_AFTER:
        message = f"stop_abandoned(after={after!r}) is not between 0 and {_MAX_AFTER:g} seconds"
        raise ValueError(message)
    wishes.want()
    return StopAbandoned(StopRule(after, tools))


_MAX_AFTER: Final = 86_400.0
