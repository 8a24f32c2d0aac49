"""Which task holds a run from its start to its end: when it is done, so is the run."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Final

_END_WHAT_THEY_START: Final = frozenset({"agenerate", "arun"})
"""langchain-core's coroutines that hold a model's or a tool's run from its start to its end."""
_NOT_THE_CALLER: Final = ("langchain_core.callbacks", "otel_coach.")
_COMPREHENSION: Final = "<listcomp>"  # a frame of its own before Python 3.12


def holding_task() -> asyncio.Task[Any] | None:
    """The task whose coroutine called the manager, if it holds the run from its start to its end.

    To be called where langchain-core calls a manager's method, not where the coroutine runs that
    this returns: that may be a task of `asyncio.gather`, which hides the caller.
    """
    frame = inspect.currentframe()
    while frame is not None and (
        frame.f_code.co_name == _COMPREHENSION
        or str(frame.f_globals.get("__name__")).startswith(_NOT_THE_CALLER)
    ):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name not in _END_WHAT_THEY_START:
        return None
    if not frame.f_code.co_flags & inspect.CO_COROUTINE:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # under another library's event loop
        return None
