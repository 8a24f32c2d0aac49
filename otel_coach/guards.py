"""What keeps a fault of ours from the application: swallowed, counted, logged once."""

from __future__ import annotations

import functools
from asyncio import CancelledError
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

THE_HOSTS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, CancelledError)
"""What is never swallowed: somebody wants the work, or the process, to end."""
uncounted: Final = deque[BaseException](maxlen=1000)
"""Faults that could not be counted where they were met."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


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


def guarded(
    hook: Callable[Concatenate[_Self, _P], _R],
) -> Callable[Concatenate[_Self, _P], _R | None]:
    """Make `hook` harmless to the application that calls it.

    A fault of ours, also one that is no Exception, is swallowed, counted and logged once.
    Cancellation and the end of the process are the host's, and pass.
    """

    @functools.wraps(hook)
    def harmless(self: _Self, *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return hook(self, *args, **kwargs)
        except THE_HOSTS:
            raise
        except BaseException as fault:  # noqa: BLE001 - whatever fails in us, the host goes on
            try:
                self.recorder.fault(fault, hook.__qualname__)
            except THE_HOSTS:
                raise
            except BaseException:  # noqa: BLE001 - at the recursion limit nothing can be called
                uncounted.append(fault.with_traceback(None))
            return None

    return harmless


def guarded_async(
    hook: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R | None]]:
    """As `guarded`, for a coroutine function."""

    @functools.wraps(hook)
    async def harmless(self: _Self, *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return await hook(self, *args, **kwargs)
        except THE_HOSTS:
            raise
        except BaseException as fault:  # noqa: BLE001 - as above
            self.recorder.fault(fault, hook.__qualname__)
            return None

    return harmless


def raised_at(fault: BaseException) -> str:
    """Where `fault` was raised, as file:line."""
    traceback = fault.__traceback__
    if traceback is None:
        return "no traceback"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    path = traceback.tb_frame.f_code.co_filename
    return f"{Path(path).name}:{traceback.tb_lineno}"
