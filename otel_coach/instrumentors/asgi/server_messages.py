"""The server's messages to an application, read ahead to see early that the client has left."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING

from otel_coach.instrumentors.asgi.look_ahead import DISCONNECTS, MAX_AHEAD, message_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.asgi_types import Message, Receive


class ServerMessages:
    """Gives the application the server's messages, in their order.

    Until `watch` is called, each call of `next` reads one from the server. From then on a task
    reads them, whether the application waits for one or not. It stops at a few that the application
    has not taken, so that the server's flow control works. Only `client_has_left_now` reads beside
    it.

    Args:
        receive: the server's callable.
        left: called in the event loop, once, with the disconnect message.
    """

    def __init__(self, receive: Receive, left: Callable[[Message], None]) -> None:
        self._receive = receive
        self._left = left
        self._ahead: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_wanted = False
        self._reading = 0
        """How many calls of `next` wait for the server's `receive` themselves, without the task."""
        self._changed: asyncio.Event | None = None
        """Set when there is a message, or room for one."""

    def watch(self) -> None:
        """Reads messages ahead from now on."""
        self._is_wanted = True
        if self._task is None and not self._reading:
            self._changed = asyncio.Event()
            # In an empty context: the run that is current here must not be current in the task.
            self._task = asyncio.get_running_loop().create_task(self._read(), context=Context())
            self._task.add_done_callback(self._ended)

    def close(self) -> None:
        """Ends the task."""
        self._is_wanted = False
        if self._task is not None:
            self._task.cancel()

    @property
    def is_watched(self) -> bool:
        """Whether the task reads them."""
        return self._task is not None and not self._task.done()

    async def next(self) -> Message:
        """Returns the next message."""
        while True:
            if self._ahead:
                message = self._ahead.popleft()
                self._change()
                return message
            if not self.is_watched:
                break
            await self._until_changed()
        self._reading += 1
        try:
            return await self._receive()
        finally:
            self._reading -= 1
            if self._is_wanted:
                self.watch()

    def client_has_left_now(self) -> bool:
        """Returns whether the server has already said that the client has left.

        The task, which waits for the same message, may not have run since.
        """
        message = message_now(self._receive)
        if message is None:
            return False
        self._ahead.append(message)  # a server may give a message once only
        self._change()
        if message["type"] not in DISCONNECTS:
            return False
        self.close()
        return True

    async def _read(self) -> None:
        while True:
            while len(self._ahead) >= MAX_AHEAD:
                await self._until_changed()
            message = await self._receive()
            self._ahead.append(message)
            self._change()  # first: code that awaits the disconnect gets it before it is stopped
            if message["type"] in DISCONNECTS:
                self._is_wanted = False
                self._left(message)
                return

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._change()  # also if the task was cancelled before its first step

    async def _until_changed(self) -> None:
        assert self._changed is not None  # noqa: S101 # nosec B101 - for the type
        self._changed.clear()
        await self._changed.wait()

    def _change(self) -> None:
        if self._changed is not None:
            self._changed.set()
