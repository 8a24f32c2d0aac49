"""Tells by the frames of the stack whether the code of LangChain's models is running.

A context variable cannot tell: a stream that is still open, or a call that was cancelled, for which
LangChain calls no callback, leaves its run current in the code that goes on after it.
"""

from __future__ import annotations

from inspect import currentframe
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_MODELS: Final = "langchain_core.language_models."
"""The package whose functions call the methods of every model."""
_EXECUTOR: Final = "langchain_core.runnables.config"
"""The module that calls the methods of a model without asynchronous ones, in a thread."""
_SYNCHRONOUS_METHODS: Final = ("_generate", "_stream")


def is_inside_model() -> bool:
    """Returns whether the calling code is in a model's call, or in code that such a call calls."""
    return _frame_of_call(_frame_of_caller()) is not None


def is_inside_another_model() -> bool:
    """Returns whether a second model's call waits for the model's call that the caller is in."""
    frame = _frame_of_call(_frame_of_caller())
    while frame is not None and _is_of_models(frame):
        frame = frame.f_back
    return _frame_of_call(frame) is not None


def _frame_of_caller() -> FrameType | None:
    """Returns the frame of the code that has called the function that calls this.

    The frame is not passed as an argument, because `core.interrupts` takes each function that is
    called with its caller's frame for a signal handler or a debugger.
    """
    frame = currentframe()
    for _ in range(2):
        frame = None if frame is None else frame.f_back
    return frame


def _frame_of_call(frame: FrameType | None) -> FrameType | None:
    """Returns the innermost frame of a model's call, from `frame` outwards; None without one."""
    while frame is not None and not _is_of_models(frame) and not _is_in_executor(frame):
        frame = frame.f_back
    return frame


def _is_of_models(frame: FrameType) -> bool:
    return _module_of(frame).startswith(_MODELS)


def _is_in_executor(frame: FrameType) -> bool:
    """Returns whether `frame` is a model's method for which its call waits in another thread."""
    caller = frame.f_back
    return (
        frame.f_code.co_name in _SYNCHRONOUS_METHODS
        and caller is not None
        and _module_of(caller) == _EXECUTOR
    )


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
