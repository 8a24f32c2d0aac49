"""Waiting in an event loop for what another thread does."""

from __future__ import annotations

from asyncio import get_running_loop
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping


def event() -> tuple[anyio.Event, Callable[[], object]]:
    """An event of this event loop, and what sets it from another thread."""
    made = anyio.Event()
    try:
        from_thread: Any = get_running_loop().call_soon_threadsafe
    except RuntimeError:
        trio: Any = import_module("trio")
        from_thread = trio.lowlevel.current_trio_token().run_sync_soon
    return made, partial(from_thread, made.set)


async def comes_before_the_client_leaves(
    awaited: anyio.Event, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]
) -> bool:
    """Wait for it, unless the client leaves; whether it came."""

    async def watch() -> None:
        bodies = 0
        while (message := await receive())["type"] != "http.disconnect":
            bodies += not message.get("more_body", False)
            if bodies > 1:  # a server that does not wait for the client to leave
                return
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await awaited.wait()
        tasks.cancel_scope.cancel()
    return awaited.is_set()
