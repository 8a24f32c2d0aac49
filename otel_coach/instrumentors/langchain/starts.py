"""What only langchain-core's callback manager sees when a coroutine starts a run.

Its start methods are called by the coroutine itself; the handlers, perhaps, from helper tasks of
`asyncio.gather`, which nobody can see through.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_coach.patches import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Start(NamedTuple):
    """The start of a run whose handlers are being called."""

    task: asyncio.Task[Any] | None = None
    """It is done no sooner than the run: its coroutine starts the run and ends it."""
    steps_aside: bool = False
    """An inline handler would keep the others from being called (langchain#39633)."""


current_start: ContextVar[Start] = ContextVar("otel_coach_start", default=Start())  # noqa: B039 - a tuple

_STARTS: Final = ("on_chat_model_start", "on_llm_start", "on_tool_start")
_FORGETS_OTHERS: Final = "on_llm_start"
_END_WHAT_THEY_START: Final = frozenset({"agenerate", "arun"})
"""langchain-core's coroutines that hold a model's or a tool's run from its start to its end."""
_NOT_THE_CALLER: Final = ("langchain_core.callbacks", "otel_coach.")
_COMPREHENSION: Final = "<listcomp>"  # a frame of its own before Python 3.12


def watch_starts(
    manager: Any, look: Callable[[Any, str], Start | None]
) -> list[Callable[[], None]]:
    """Keep `current_start` right for langchain-core's class AsyncCallbackManager.

    `look` is `start_of`, made harmless to the host. What is returned undoes it.
    """
    return [replaced(manager, name, partial(_looking, look=look)) for name in _STARTS]


def start_of(manager: Any, name: str) -> Start:
    """What the caller of the method `name` of a callback manager starts."""
    inline = [handler.run_inline for handler in manager.handlers]
    alone = name == _FORGETS_OTHERS and inline.count(True) == 1 < len(inline)
    return Start(_task_of_calling_coroutine(), steps_aside=alone)


def _looking(
    original: Callable[..., Coroutine[Any, Any, Any]],
    look: Callable[[Any, str], Start | None],
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return _within(look(self, original.__name__) or Start(), original(self, *args, **kwargs))

    return start


async def _within(start: Start, starting: Coroutine[Any, Any, Any]) -> Any:
    before = current_start.set(start)
    try:
        return await starting
    finally:
        current_start.reset(before)


def _task_of_calling_coroutine() -> asyncio.Task[Any] | None:
    frame = inspect.currentframe()
    while frame is not None and (
        frame.f_code.co_name == _COMPREHENSION
        or str(frame.f_globals.get("__name__")).startswith(_NOT_THE_CALLER)
    ):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name not in _END_WHAT_THEY_START:
        return None
    if not frame.f_code.co_flags & inspect.CO_COROUTINE:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # under another library's event loop
        return None
