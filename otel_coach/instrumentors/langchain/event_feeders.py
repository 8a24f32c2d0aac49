"""The tasks in which LangChain's event streams (`astream_events`) run their runnable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

_CONSUMER: Final = ".<locals>.consume_astream"
_STREAMS: Final = ("_astream_log_implementation", "_astream_events_implementation")
"""The functions of langchain-core that define the coroutine that reads the runnable's stream."""


def feeds_events(task: asyncio.Task[Any]) -> bool:
    """Returns whether `task` feeds a stream of events, which other code reads.

    The stream of version 1 waits for it to end, even if the stream itself is cancelled.
    """
    name = getattr(task.get_coro(), "__qualname__", "")
    return name.endswith(_CONSUMER) and name.startswith(_STREAMS)
