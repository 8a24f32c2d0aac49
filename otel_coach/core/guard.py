"""Keeps otel-coach's faults from the application: they are swallowed, counted and logged once."""

from __future__ import annotations

import functools
import sys
import threading
from asyncio import CancelledError
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

from otel_coach.core.interrupts import interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_CANCELLATION: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, CancelledError)
"""Never swallowed: cancellation and the end of the process belong to the host."""
uncounted: Final = deque[BaseException](maxlen=1000)
"""Faults that could not be counted where they were caught; the recorder counts them later."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Thread(threading.local):
    """Thread-local state."""

    is_own = False
    """Whether otel-coach started the thread; if so, no exception in it belongs to the host."""


_current_thread: Final = _Thread()


class CountsFaults(Protocol):
    """Counts faults inside otel-coach."""

    def fault(self, fault: BaseException, place: str) -> None:
        """Counts `fault`; `place` says where it was caught, for example the function's name."""
        ...


class HasRecorder(Protocol):
    """A component that can report a fault inside otel-coach."""

    @property
    def recorder(self) -> CountsFaults:
        """The object that counts the fault."""
        ...


_Self = TypeVar("_Self", bound=HasRecorder)


def belongs_to_host(raised: BaseException) -> bool:
    """Whether `raised`, which was caught in otel-coach's code, belongs to the application.

    Cancellation and exceptions that end the process do. So do exceptions that interrupted the code
    from outside: a signal handler raised them (a time limit), or another thread set them. In a
    thread that otel-coach started, no exception does.
    """
    if _current_thread.is_own:
        return False
    if isinstance(raised, _CANCELLATION):
        return True
    if isinstance(raised, BaseExceptionGroup):
        return any(map(belongs_to_host, cast("BaseExceptionGroup[Any]", raised).exceptions))
    # An application that runs under trio has imported it.
    if (trio := sys.modules.get("trio")) is not None and isinstance(raised, trio.Cancelled):
        return True
    return interrupted(raised)


def swallowed(component: HasRecorder, raised: BaseException, place: str) -> bool:
    """Counts `raised` as a fault of `component`, unless it belongs to the host.

    In the latter case it returns False, and the caller must raise the exception again. At the
    recursion limit no function can be called; the fault is then kept in `uncounted`, and counted
    later.
    """
    try:
        if belongs_to_host(raised):
            return False
        component.recorder.fault(raised, place)
    except BaseException as second:
        if isinstance(raised, _CANCELLATION) and not _current_thread.is_own:
            return False
        if belongs_to_host(second):
            raise
        uncounted.append(raised.with_traceback(None))
    return True


def guarded(
    hook: Callable[Concatenate[_Self, _P], _R],
) -> Callable[Concatenate[_Self, _P], _R | None]:
    """Wraps `hook` so that it does no harm to the application that calls it.

    A fault inside otel-coach, even one that is not an `Exception`, is swallowed, counted and logged
    once; the call then returns None. An exception that belongs to the host is raised
    (`belongs_to_host`).
    """

    @functools.wraps(hook)
    def harmless(self: _Self, *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return hook(self, *args, **kwargs)
        except BaseException as raised:  # the host must go on, whatever fails here
            try:
                if swallowed(self, raised, hook.__qualname__):
                    return None
            except RecursionError:
                if not isinstance(raised, _CANCELLATION):
                    uncounted.append(raised.with_traceback(None))
                    return None
            raise

    return harmless


def guarded_async(
    hook: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R | None]]:
    """The same as `guarded`, for a coroutine function."""

    @functools.wraps(hook)
    async def harmless(self: _Self, *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return await hook(self, *args, **kwargs)
        except BaseException as raised:
            if swallowed(self, raised, hook.__qualname__):
                return None
            raise

    return harmless


class OwnThread(threading.Thread):
    """A daemon thread of otel-coach, which reports what its `work` raises.

    Args:
        work: the function that the thread runs.
        name: the thread's name.
        fault: called with an exception that leaves `work`, and with the thread's name. Cancellation
            and SystemExit are included, since nothing of the host runs in this thread. None if
            `work` reports its exceptions itself.
    """

    def __init__(
        self,
        work: Callable[[], object],
        name: str,
        fault: Callable[[BaseException, str], None] | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._fault = fault

    def run(self) -> None:
        """Runs `work`, and reports an exception that leaves it."""
        _current_thread.is_own = True
        try:
            self._work()
        except BaseException as raised:  # noqa: BLE001 - no caller could handle it
            if self._fault is not None:
                self._fault(raised, self.name)


def raised_at(fault: BaseException) -> str:
    """Returns where `fault` was raised, as `file:line`."""
    traceback = fault.__traceback__
    if traceback is None:
        return "no traceback"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    path = traceback.tb_frame.f_code.co_filename
    return f"{Path(path).name}:{traceback.tb_lineno}"
