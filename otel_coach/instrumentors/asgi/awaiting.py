"""Which tasks make an answer, and what they wait for."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import anyio

from otel_coach.core import compatibility
from otel_coach.core.event_loop import current_task
from otel_coach.core.late_patches import LatePatches, Methods
from otel_coach.core.library_tasks import packages
from otel_coach.core.request_context import current_request
from otel_coach.core.stopping import StoppableRequest, current_stop, route_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from otel_coach.core.asgi_types import Message, Send
    from otel_coach.core.guard import CountsFaults

    _Task = asyncio.Task[Any]

_TO_THREAD: Final = asyncio.to_thread.__code__
_ANYIO: Final = "AnyIO worker thread"
"""The name that anyio gives its threads, in which Starlette runs functions."""


class Place:
    """Where code runs: the current thread and task, or `task` if it is given."""

    __slots__ = ("is_awaited", "parent_id", "route_task", "task", "thread")

    def __init__(self, task: _Task | None = None) -> None:
        self.thread = get_ident()
        self.route_task: Any = route_task.get()
        self.task = task or current_task()
        self.parent_id = None if self.task is None else anyio.get_current_task().parent_id
        """anyio's id of the task that has started this one in a task group."""
        self.is_awaited = self.task is None and threading.current_thread().name.startswith(_ANYIO)
        """Whether a task awaits this thread's work, as it does if Starlette runs a function."""

    def task_in(self, thread: int) -> _Task | None:
        """Returns the task if it runs in the event loop of `thread`, else None."""
        return self.task if self.thread == thread else None

    def descends_from(self, server_task: _Task) -> bool:
        """Returns whether the task is `server_task`, the route's task, or a descendant of these.

        Descendants are the tasks of anyio's task groups, which end before the task that has started
        them. Tasks that were started otherwise may outlive the request.
        """
        known = {id(task) for task in (server_task, self.route_task) if task is not None}
        if id(self.task) in known or self.parent_id in known:
            return True
        return self.parent_id is not None and not known.isdisjoint(_with_ancestors(self.parent_id))

    def let_go(self) -> None:
        """Drops the tasks: a cancelled one refers to its frames, and so to a stream, say."""
        self.task = self.route_task = None


def descends_from(task: _Task, ancestor: _Task) -> bool:
    """Returns whether `task` is `ancestor`, or a descendant of it, as in `Place.descends_from`."""
    return id(ancestor) in _with_ancestors(id(task))


def _with_ancestors(task: int | None) -> set[int]:
    """Returns the id of a task, and those of the tasks that have started it in task groups."""
    parents = {known.id: known.parent_id for known in anyio.get_running_tasks()}
    found: set[int] = set()
    while task is not None and task not in found:
        found.add(task)
        task = parents.get(task)
    return found


def awaits_thread(task: _Task) -> bool:
    """Returns whether `task` awaits `asyncio.to_thread` now, perhaps in asynchronous generators."""
    return any(getattr(one, "cr_code", None) is _TO_THREAD for one in _awaiting(task))


def awaits_library(task: _Task) -> bool:
    """Returns whether `task` now awaits code of a library that calls models."""
    names = packages()
    return any(frame.f_globals.get("__name__", "").startswith(names) for frame in _frames(task))


def awaits_keeper_of(kept: _Task, task: _Task) -> bool:
    """Returns whether `task` now awaits code that keeps `kept` in a local variable."""
    return any(any(value is kept for value in frame.f_locals.values()) for frame in _frames(task))


def awaits_shared_task(task: _Task) -> bool:
    """Returns whether the cancellation of `task` would cancel a task that others await, too.

    Requests share a task, for example, if each awaits the answer that the first began to make.
    """
    return any(
        sum(map(_is_waiter, getattr(one, "_callbacks", None) or ())) > 1 or awaits_shared_task(one)
        for one in _cancelled_with(task)
        if isinstance(one, asyncio.Task)
    )


def _cancelled_with(task: _Task) -> Iterator[Any]:
    """Yields the futures that the cancellation of `task` would cancel."""
    awaited = getattr(task, "_fut_waiter", None)
    yield from getattr(awaited, "_children", None) or (awaited,)
    for frame in _frames(task):  # before Python 3.12, `wait_for` awaits a future of its own
        if frame.f_code is asyncio.wait_for.__code__ and "fut" in frame.f_locals:
            yield frame.f_locals["fut"]


def _is_waiter(callback_and_context: tuple[Any, object]) -> bool:
    """Returns whether a task's callback is that of a waiting task, or of `gather` and its like."""
    callback, _ = callback_and_context
    made_by = getattr(getattr(callback, "func", callback), "__module__", None)
    return isinstance(getattr(callback, "__self__", None), asyncio.Task) or (
        made_by == asyncio.tasks.__name__
    )


def _frames(task: _Task) -> Iterator[FrameType]:
    """Yields the frames of the coroutines and generators of `task`, outermost first."""
    for one in _awaiting(task):
        frame = getattr(one, "cr_frame", None) or getattr(one, "ag_frame", None)
        if frame is not None:
            yield frame


def _awaiting(task: _Task) -> Iterator[Any]:
    """Yields the coroutines and generators of `task`, each of which awaits the next one now."""
    one: Any = task.get_coro()
    while one is not None:
        yield one
        one = _awaited_by(one)


def _awaited_by(awaiting: Any) -> Any:
    """Returns what a coroutine or generator awaits; None if nothing, or if it cannot be found."""
    for name in ("cr_await", "ag_await"):
        if hasattr(awaiting, name):
            return getattr(awaiting, name)
    # The awaitable of an asynchronous generator's step has no attribute for it, but refers to it.
    return next(filter(inspect.isasyncgen, gc.get_referents(awaiting)), None)


def note_answering_tasks(recorder: CountsFaults) -> LatePatches:
    """Notes from now on in which task a route runs, and in which task its response is streamed.

    A middleware may run the route in a task of its own. Code in further tasks that the route starts
    (`asyncio.gather`, `asyncio.wait_for`) finds the route's task through the context.
    """
    return LatePatches(recorder, _PATCHED, compatibility.ROUTES)


def _noting_route(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def handle(*args: Any, **kwargs: Any) -> None:
        route_task.set(current_task())
        try:
            await original(*args, **kwargs)
        except BaseException as error:
            request = current_request.get()
            if isinstance(request, StoppableRequest):
                request.route_failed(error)
            raise

    return handle


def _noting_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def stream_response(self: Any, send: Send, *args: Any, **kwargs: Any) -> None:
        request = current_request.get()
        if isinstance(request, StoppableRequest):
            request.streaming_task = current_task()
            send = _refusing_to_go_on(send, request)
        try:
            await original(self, send, *args, **kwargs)
        except asyncio.CancelledError as error:
            # If it was cancelled while it sent, or while a thread made the next part, nothing has
            # closed the generator; the exception's traceback refers to the frames that have it.
            if (stop := current_stop()) is not None and stop.is_on:
                error.__traceback__ = None
                if stop.has_cancelled:
                    await _close(getattr(self, "body_iterator", None))
            raise

    return stream_response


def _refusing_to_go_on(send: Send, request: StoppableRequest) -> Send:
    """Wraps `send` in the response's own task: a middleware may send in another one."""

    async def refusing(message: Message) -> None:
        if request.goes_on_though_cancelled(message):
            raise asyncio.CancelledError
        await send(message)

    return refusing


async def _close(iterator: Any) -> None:
    """Closes a generator; what it raises goes to the event loop's log, as if it were dropped."""
    if not inspect.isasyncgen(iterator):
        return
    try:
        await iterator.aclose()
    except Exception as error:  # noqa: BLE001 - the application's, after its work was stopped
        asyncio.get_running_loop().call_exception_handler(
            {
                "message": "an error occurred during closing of asynchronous generator",
                "exception": error,
                "asyncgen": iterator,
            }
        )


_ROUTES: Final = ("Route", "APIRoute", "WebSocketRoute", "APIWebSocketRoute")
_PATCHED: Final = {
    "starlette.routing": Methods("handle", _ROUTES, _noting_route),
    "fastapi.routing": Methods("handle", _ROUTES, _noting_route),
    "starlette.responses": Methods("stream_response", ("StreamingResponse",), _noting_stream),
}
