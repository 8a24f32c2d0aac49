"""The event loop and the task in which code runs."""

from __future__ import annotations

import asyncio
from typing import Any


def runs_asyncio() -> bool:
    """Returns whether the running event loop is asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def current_task() -> asyncio.Task[Any] | None:
    """Returns the current task, None outside of asyncio's tasks."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs here, or it is not asyncio's
        return None
