"""Waits in an event loop for the work of another thread."""

from __future__ import annotations

from asyncio import get_running_loop
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping


def event() -> tuple[anyio.Event, Callable[[], object]]:
    """Returns an event of this event loop, and a function that sets it from another thread."""
    made = anyio.Event()
    try:
        from_thread: Any = get_running_loop().call_soon_threadsafe
    except RuntimeError:
        trio: Any = import_module("trio")
        from_thread = trio.lowlevel.current_trio_token().run_sync_soon
    return made, partial(from_thread, made.set)


sleep = anyio.sleep


async def unless_the_client_leaves(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    work: Callable[[], Awaitable[object]],
) -> bool:
    """Runs `work`, and cancels it if the client disconnects; returns whether it was completed.

    Raises:
        Exception: what `work` raised, not wrapped in an exception group.
    """
    is_done = False
    raised: Exception | None = None

    async def watch() -> None:
        bodies = 0
        while (message := await receive())["type"] != "http.disconnect":
            bodies += not message.get("more_body", False)
            if bodies > 1:  # the server returns the body again and again, and never waits
                return
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            await work()
            is_done = True
        except Exception as error:  # noqa: BLE001 - the task group would wrap it
            raised = error
        tasks.cancel_scope.cancel()
    if raised is not None:
        raise raised
    return is_done
