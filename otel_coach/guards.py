"""What keeps a fault of ours from the application: swallowed, counted, logged once."""

from __future__ import annotations

import functools
import sys
import threading
from asyncio import CancelledError
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

from otel_coach.interrupts import interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_CANCELLATION: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, CancelledError)
"""Never swallowed: cancellation and the end of the process belong to the host."""
uncounted: Final = deque[BaseException](maxlen=1000)
"""Faults that could not be counted where they were met."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Thread(threading.local):
    """What is known of the thread that runs."""

    is_ours = False
    """Whether otel-coach started it: then nothing that is raised in it is the host's."""


_here: Final = _Thread()


class CountsFaults(Protocol):
    """Where faults of ours are counted."""

    def fault(self, fault: BaseException, place: str) -> None:
        """Count one."""
        ...


class HasRecorder(Protocol):
    """Whoever can report a fault of ours."""

    @property
    def recorder(self) -> CountsFaults:
        """Where the fault is counted."""
        ...


_Self = TypeVar("_Self", bound=HasRecorder)


def is_the_hosts(raised: BaseException) -> bool:
    """Whether `raised`, which was caught in our code, belongs to the application.

    That is cancellation, the end of the process, and what interrupted our code from outside: an
    exception out of a signal handler (a time limit), or one that another thread set. In a thread
    of our own nothing is.
    """
    if _here.is_ours:
        return False
    if isinstance(raised, _CANCELLATION):
        return True
    if isinstance(raised, BaseExceptionGroup):
        return any(map(is_the_hosts, cast("BaseExceptionGroup[Any]", raised).exceptions))
    # Whoever runs under trio has imported it.
    if (trio := sys.modules.get("trio")) is not None and isinstance(raised, trio.Cancelled):
        return True
    return interrupted(raised)


def swallowed(who: HasRecorder, raised: BaseException, place: str) -> bool:
    """Count `raised` as a fault of `who`; False if it is the host's, and must be raised again.

    At the recursion limit nothing can be called: it is counted later.
    """
    try:
        if is_the_hosts(raised):
            return False
        who.recorder.fault(raised, place)
    except BaseException as another:
        if isinstance(raised, _CANCELLATION) and not _here.is_ours:
            return False
        if is_the_hosts(another):
            raise
        uncounted.append(raised.with_traceback(None))
    return True


def guarded(
    hook: Callable[Concatenate[_Self, _P], _R],
) -> Callable[Concatenate[_Self, _P], _R | None]:
    """Make `hook` harmless to the application that calls it.

    A fault of ours, also one that is no Exception, is swallowed, counted and logged once. What is
    the host's passes (`is_the_hosts`).
    """

    @functools.wraps(hook)
    def harmless(self: _Self, *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return hook(self, *args, **kwargs)
        except BaseException as raised:  # whatever fails in us, the host goes on
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
    """As `guarded`, for a coroutine function."""

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
    """A daemon thread of ours, which no exception ends but after `work` is done.

    Args:
        work: what it does.
        name: of the thread.
        fault: told of what `work` raises, cancellation and SystemExit too: nobody else is there
            whom they could concern. None where `work` tells of all itself.
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
        """Work, and report what comes out of it."""
        _here.is_ours = True
        try:
            self._work()
        except BaseException as raised:  # noqa: BLE001 - it would go nowhere
            if self._fault is not None:
                self._fault(raised, self.name)


def raised_at(fault: BaseException) -> str:
    """Where `fault` was raised, as file:line."""
    traceback = fault.__traceback__
    if traceback is None:
        return "no traceback"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    path = traceback.tb_frame.f_code.co_filename
    return f"{Path(path).name}:{traceback.tb_lineno}"
