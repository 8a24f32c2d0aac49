"""Finds the task that executes the whole run of a model, a tool or a retriever."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from otel_coach.core.event_loop import current_task

if TYPE_CHECKING:
    import asyncio

_OWNERS: Final = frozenset({"agenerate", "arun"})
"""langchain-core's coroutines that both start and end the run of a model or a tool."""
_RETRIEVERS: Final = ("langchain_core.retrievers", "ainvoke")
"""The module and the name of the coroutine that does so for a retriever."""
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
    if frame is None:
        return None
    name = frame.f_code.co_name
    if name not in _OWNERS and (frame.f_globals.get("__name__"), name) != _RETRIEVERS:
        return None
    if not frame.f_code.co_flags & inspect.CO_COROUTINE:
        return None
    return current_task()
