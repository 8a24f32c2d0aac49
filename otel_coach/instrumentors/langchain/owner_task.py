"""Finds the task that executes the whole run of an LLM or a tool, which ends with the task."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Final

_OWNERS: Final = frozenset({"agenerate", "arun"})
"""langchain-core's coroutines that both start and end the run of a model or a tool."""
_SKIPPED_MODULES: Final = ("langchain_core.callbacks", "otel_coach.")
_COMPREHENSION: Final = "<listcomp>"  # has its own frame before Python 3.12


def owner_task() -> asyncio.Task[Any] | None:
    """Returns the current task if its coroutine both starts and ends the run, else None.

    Must be called when langchain-core calls a manager's method, not later in the coroutine that the
    method returns: `asyncio.gather` may run that in another task, which hides the caller.
    """
    frame = inspect.currentframe()
    while frame is not None and (
        frame.f_code.co_name == _COMPREHENSION
        or str(frame.f_globals.get("__name__")).startswith(_SKIPPED_MODULES)
    ):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name not in _OWNERS:
        return None
    if not frame.f_code.co_flags & inspect.CO_COROUTINE:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # the event loop is not asyncio's
        return None
