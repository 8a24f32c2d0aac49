"""Reads the server's messages before the application asks for them, without waiting."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.core.event_loop import runs_asyncio

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from otel_coach.core.asgi_types import Message, Receive

DISCONNECT: Final = "http.disconnect"
DISCONNECTS: Final = frozenset({DISCONNECT, "websocket.disconnect"})
MAX_AHEAD: Final = 8
"""Maximum number of messages that are read ahead and kept for the application."""


def can_look_ahead(receive: Receive) -> bool:
    """Returns whether `message_now` works: with coroutines on asyncio only."""
    return runs_asyncio() and inspect.iscoroutinefunction(receive)


def tells_again(receive: Receive) -> bool:
    """Returns whether the server gives the disconnect each time it is asked, as uvicorn does."""
    return type(getattr(receive, "__self__", None)).__module__.startswith("uvicorn.")


def message_now(receive: Receive) -> Message | None:
    """Returns the server's next message if it is there already, else None.

    A `receive` that would wait is closed at its first step, as if it were cancelled.
    """
    step = cast("Coroutine[Any, Any, Message]", receive())
    try:
        step.send(None)
    except StopIteration as stop:
        return stop.value
    step.close()
    return None
