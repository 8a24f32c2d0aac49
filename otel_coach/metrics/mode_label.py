"""`labels`: the application's own mode for the AI work of a block, a function or a response."""

from __future__ import annotations

import inspect
import logging
import reprlib
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from otel_coach.core.open_blocks import OpenBlocks
from otel_coach.core.request_context import current_request, stated_mode
from otel_coach.metrics.labels import OTHER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

_Function = TypeVar("_Function", bound="Callable[..., Any]")

_logger = logging.getLogger("otel_coach")
_is_logged = False


def labelled_mode() -> str | None:
    """Returns the mode of the innermost `labels` block that the current code is in, or None."""
    innermost = _open.innermost()
    return None if innermost is None else innermost.mode


def mode_of_response() -> str | None:
    """Returns the mode for work after its `labels` block that states none itself, or None.

    A response is often made inside a block, but streamed after it. So once the response has
    started, the last block that has ended in the request applies.
    """
    request = current_request.get()
    return request.labelled_mode if request is not None and request.is_answering else None


class Labels:
    """A context manager and a decorator of functions and generators, sync or async."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        _open.enter(self)

    def __exit__(self, *_raised: object) -> None:
        _open.leave(self)
        if (request := current_request.get()) is not None:
            request.labelled_mode = self.mode

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *raised: object) -> None:
        self.__exit__(*raised)

    def __call__(self, function: _Function) -> _Function:
        """Returns `function`, wrapped so that the mode applies to its AI work."""
        wrapped: Callable[..., Any]
        if inspect.isasyncgenfunction(function):
            wrapped = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapped = self._around_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapped = self._around_coroutine(function)
        else:
            wrapped = self._around_function(function)
        wrapped = wraps(function)(wrapped)
        # FastAPI reads an endpoint's annotations, some versions in the module of the wrapper.
        with suppress(Exception):  # an annotation that cannot be evaluated is the host's matter
            wrapped.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
        return cast("_Function", wrapped)

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def labelled(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return labelled

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def labelled(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return labelled

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the mode while the generator runs, and not while its consumer does (PEP 380)."""

        def labelled(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = function(*args, **kwargs)
            step = partial(next, inner)
            while True:
                try:
                    with self:
                        value = step()
                except StopIteration as end:
                    return end.value
                try:
                    sent = yield value
                except GeneratorExit:
                    with self:
                        inner.close()
                    raise
                except BaseException as raised:  # noqa: BLE001 - the inner generator's to handle
                    step = partial(inner.throw, raised)
                else:
                    step = partial(inner.send, sent)

        return labelled

    def _around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def labelled(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            inner = function(*args, **kwargs)
            step = inner.__anext__
            while True:
                try:
                    with self:
                        value = await step()
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    with self:
                        await inner.aclose()
                    raise
                except BaseException as raised:  # noqa: BLE001 - the inner generator's to handle
                    step = partial(inner.athrow, raised)
                else:
                    step = partial(inner.asend, sent)

        return labelled


_open: OpenBlocks[Labels] = OpenBlocks("otel_coach_labels")


def labels(*, mode: str) -> Labels:
    """Sets the application's mode for the AI work of a block, a function or a generator.

    A context manager and a decorator, for sync and async code::

        with labels(mode="planner"):
            return StreamingResponse(answer())

        @labels(mode="planner")
        async def plan(question: str) -> str: ...

    `mode` is a short identifier (`[A-Za-z0-9_.-]{1,40}`); anything else counts as `other`, which is
    logged once. It takes precedence over a mode in a run's metadata, in its `configurable` or in
    the graph's input. A response that is returned from the block is labelled to its end, as is its
    background work, unless their runs state a mode of their own.
    """
    global _is_logged  # noqa: PLW0603 - once in a process
    known = stated_mode(mode)
    if known is None and not _is_logged:
        _is_logged = True
        _logger.warning(
            "otel-coach: labels(mode=%s) cannot be a label and counts as %s. Cure: use 1 to 40 of "
            "the characters A-Z a-z 0-9 _ . -",
            reprlib.repr(mode),
            OTHER,
        )
    return Labels(OTHER if known is None else known)
