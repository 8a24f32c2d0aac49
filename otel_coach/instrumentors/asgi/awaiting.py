"""Which tasks make an answer, and what they wait for."""

from __future__ import annotations

import asyncio
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import wrapt

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replaced, undone
from otel_coach.core.request_context import current_request
from otel_coach.core.stopping import StoppableRequest, answering_task
from otel_coach.instrumentors.asgi.event_loop import current_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.core.guard import CountsFaults


_TO_THREAD: Final = asyncio.to_thread.__code__
_CONSUMER: Final = ".<locals>.consume_astream"
_STREAMS: Final = ("_astream_log_implementation", "_astream_events_implementation")
"""langchain-core's coroutine in which an event stream consumes the runnable's stream."""
_ANYIO: Final = "AnyIO worker thread"
"""The name that anyio gives its threads, in which Starlette runs functions."""


def awaits_thread(task: asyncio.Task[Any]) -> bool:
    """Returns whether `task` awaits `asyncio.to_thread` now."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        if getattr(awaited, "cr_code", None) is _TO_THREAD:
            return True
        awaited = getattr(awaited, "cr_await", None)
    return False


def feeds_events(task: asyncio.Task[Any]) -> bool:
    """Returns whether `task` is the one in which LangChain's event streams run their runnable.

    The stream of version 1 waits for it to end, even if the stream itself is cancelled.
    """
    name = getattr(task.get_coro(), "__qualname__", "")
    return name.endswith(_CONSUMER) and name.startswith(_STREAMS)


def is_worker_of_anyio() -> bool:
    """Returns whether this thread runs a function for a task that awaits it."""
    return threading.current_thread().name.startswith(_ANYIO)


class AnsweringTasks:
    """Notes the task in which a route runs, and that in which its response is streamed.

    A middleware may run the route in a task of its own.

    Code that the route starts in further tasks (`asyncio.gather`, `asyncio.wait_for`) finds it
    through the context.
    """

    def __init__(self, recorder: CountsFaults) -> None:
        self.recorder = recorder
        self._undo: list[Callable[[], None]] | None = []
        for module in _PATCHED:
            wrapt.register_post_import_hook(self._patch, module)

    def undo(self) -> None:
        """Restores the routes."""
        undone(self._undo or ())
        self._undo = None

    @guarded  # an exception here would break the host's own import
    def _patch(self, module: Any) -> None:
        if self._undo is None:  # an import hook cannot be unregistered
            return
        method, names, make = _PATCHED[module.__name__]
        for name in names:
            cls = getattr(module, name, None)
            if cls is not None and method in vars(cls):
                self._undo.append(replaced(cls, method, make))


def _noting_route(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def handle(*args: Any, **kwargs: Any) -> None:
        answering_task.set(current_task())
        try:
            await original(*args, **kwargs)
        except BaseException as error:
            request = current_request.get()
            if isinstance(request, StoppableRequest) and request.route_failed is not None:
                request.route_failed(error)
            raise

    return handle


def _noting_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def stream_response(*args: Any, **kwargs: Any) -> None:
        request = current_request.get()
        if isinstance(request, StoppableRequest):
            request.streaming_task = current_task()
        await original(*args, **kwargs)

    return stream_response


_ROUTES: Final = ("Route", "APIRoute", "WebSocketRoute", "APIWebSocketRoute")
_PATCHED: Final = {
    "starlette.routing": ("handle", _ROUTES, _noting_route),
    "fastapi.routing": ("handle", _ROUTES, _noting_route),
    "starlette.responses": ("stream_response", ("StreamingResponse",), _noting_stream),
}
"""By module: the method, the classes (some inherit it), and what replaces it."""
