"""Refuses the next call of a model, a tool or a retriever in work that is stopped.

These patches lie around those of `manager_patches`, and are made only where stopping is asked for.
The ASGI middleware cancels tasks; this ends what a cancellation does not: work in threads, and
tasks that have lost it. It also replaces the exception with which an outermost run ends.
"""

from __future__ import annotations

from asyncio import CancelledError
from functools import partial, wraps
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from otel_coach.core import compatibility
from otel_coach.core.guard import guarded
from otel_coach.core.late_patches import LatePatches, Methods
from otel_coach.core.patching import replace_method
from otel_coach.core.stopping import (
    StoppedError,
    await_outermost,
    current_stop,
    refuse,
    refuse_async,
    replacement_for,
)
from otel_coach.instrumentors.langchain.manager_patches import is_observed
from otel_coach.instrumentors.langchain.modes import current_parent_id
from otel_coach.instrumentors.langchain.trials import FLAVOURS, STARTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from otel_coach.core.guard import CountsFaults
    from otel_coach.core.stopping import Stop
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.instrumentors.langchain.manager_patches import HasObserver

_REFUSED: Final = ("LLM", "Tool", "Retriever")
_REPORTED: Final = ("Chain", "LLM")
"""The kinds of run whose end by a cancellation LangChain reports: chains, and streams of models.

`replacing_unreported` is for other calls of models.
"""


def refusing(module: Any, instrumentor: HasObserver) -> Iterator[Callable[[], None]]:
    """Patches the managers in `module`; yields, for each method, a function that restores it."""
    compatibility.holds(compatibility.EVENT_FEEDERS)  # only logs what is lost
    for flavour in FLAVOURS:
        manager = getattr(module, f"{flavour}CallbackManager")
        for kind in filter(is_observed, _REFUSED):
            for name in STARTS[kind]:
                make = partial(_refusing, instrumentor=instrumentor, is_async=bool(flavour))
                yield replace_method(manager, name, make)
        replacing = _replacing_async if flavour else _replacing
        for kind in filter(is_observed, _REPORTED):
            run_manager = getattr(module, f"{flavour}CallbackManagerFor{kind}Run")
            name = f"on_{kind.lower()}_error"
            yield replace_method(run_manager, name, partial(replacing, instrumentor=instrumentor))
        if not is_observed("LLM"):
            continue
        run_manager = getattr(module, f"{flavour}CallbackManagerForLLMRun")
        ending = _ending_stream_async if flavour else _ending_stream
        for name in ("on_llm_new_token", "on_stream_event"):
            if hasattr(run_manager, name):  # the latter is for v3 of event streams
                yield replace_method(run_manager, name, partial(ending, instrumentor=instrumentor))


def replacing_unreported(recorder: CountsFaults) -> LatePatches:
    """Patches the calls of models whose end by a cancellation LangChain does not report."""
    return LatePatches(
        recorder,
        {
            f"langchain_core.language_models.{module}": Methods("ainvoke", (name,), _awaiting)
            for module, name in (("chat_models", "BaseChatModel"), ("llms", "BaseLLM"))
        },
    )


def _awaiting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def ainvoke(*args: Any, **kwargs: Any) -> Any:  # others ask whether it is asynchronous
        answer = original(*args, **kwargs)
        return await (answer if current_parent_id() is not None else await_outermost(answer))

    return ainvoke


def _refusing(
    original: Callable[..., Any], instrumentor: HasObserver, *, is_async: bool
) -> Callable[..., Any]:
    @wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        stop = current_stop()
        if stop is None:
            return original(self, *args, **kwargs)
        if _is_refused(instrumentor, stop, self):
            is_outermost = self.parent_run_id is None
            if is_async:
                return refuse_async(stop, is_outermost=is_outermost)
            refuse(stop, is_outermost=is_outermost)
        started = original(self, *args, **kwargs)
        if isawaitable(started):
            return _noted(started, stop, instrumentor)
        _note_calls(instrumentor, stop, started)
        return started

    return start


def _ending_stream(original: Callable[..., Any], instrumentor: HasObserver) -> Callable[..., Any]:
    """Wraps the sync method for a chunk: it ends a stream that a worker thread reads."""

    @wraps(original)
    def chunk_came(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, *args, **kwargs)
        stop = current_stop()
        if stop is not None and stop.is_on and _is_stopped(instrumentor, stop, self):
            raise StoppedError
        return answer

    return chunk_came


def _ending_stream_async(
    original: Callable[..., Any], instrumentor: HasObserver
) -> Callable[..., Any]:
    """Wraps the async method: it ends a stream that a task of LangChain's reads.

    Only the task that consumes the stream is cancelled. LangChain cancels its own task when that
    stream is closed, and either cancellation may be lost. So this raises what a cancellation would.
    asyncio would log any other exception, since nobody retrieves it.
    """

    @wraps(original)
    async def chunk_came(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await original(self, *args, **kwargs)
        stop = current_stop()
        if stop is not None and stop.is_on and _is_cancelled(instrumentor, stop, self):
            raise CancelledError
        return answer

    return chunk_came


def _replacing(original: Callable[..., Any], instrumentor: HasObserver) -> Callable[..., Any]:
    """Wraps the sync method for an error: it raises the replacement of that error, if any."""

    @wraps(original)
    def on_error(self: Any, error: BaseException, *args: Any, **kwargs: Any) -> Any:
        replacement = _replacement_for(instrumentor, self, error)
        answer = original(self, error, *args, **kwargs)
        if replacement:
            raise replacement.pop() from error
        return answer

    return on_error


def _replacing_async(original: Callable[..., Any], instrumentor: HasObserver) -> Callable[..., Any]:
    """Wraps the async method likewise."""

    @wraps(original)
    async def on_error(self: Any, error: BaseException, *args: Any, **kwargs: Any) -> Any:
        replacement = _replacement_for(instrumentor, self, error)
        answer = await original(self, error, *args, **kwargs)
        if replacement:
            raise replacement.pop() from error
        return answer

    return on_error


@guarded
def _replacement_for(
    instrumentor: HasObserver, manager: Any, error: BaseException
) -> list[BaseException]:
    stop = current_stop()
    if stop is None or manager.parent_run_id is not None:
        return []
    run = _run_of(instrumentor, manager)
    return [] if run is None else replacement_for(error, stop, run)


@guarded
def _is_refused(instrumentor: HasObserver, stop: Stop, manager: Any) -> bool:
    if not stop.is_on or (observer := instrumentor.observer) is None:
        return False
    parent = manager.parent_run_id
    return stop.refuses(observer.run_of(parent), is_outermost=parent is None)


@guarded
def _is_stopped(instrumentor: HasObserver, stop: Stop, manager: Any) -> bool:
    run = _run_of(instrumentor, manager)
    return run is not None and stop.refuses(run, is_outermost=False)


@guarded
def _is_cancelled(instrumentor: HasObserver, stop: Stop, manager: Any) -> bool:
    run = _run_of(instrumentor, manager)
    if run is None:
        return False
    is_stopped = stop.has_cancelled and stop.refuses(run, is_outermost=False)
    return is_stopped or stop.has_lost_cancellation(run)


async def _noted(started: Awaitable[Any], stop: Stop, instrumentor: HasObserver) -> Any:
    managers = await started
    _note_calls(instrumentor, stop, managers)
    return managers


@guarded
def _note_calls(instrumentor: HasObserver, stop: Stop, started: Any) -> None:
    managers: list[Any] = started if isinstance(started, list) else [started]
    for manager in managers:
        if (run := _run_of(instrumentor, manager)) is not None:
            stop.call_started(run)


def _run_of(instrumentor: HasObserver, manager: Any) -> Run | None:
    """Returns the open run of LangChain's `manager`."""
    observer = instrumentor.observer
    return None if observer is None else observer.run_of(manager.run_id)
