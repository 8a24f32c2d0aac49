"""The base class of context managers that are decorators of functions and generators, too."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def dressed_as(function: _Function, wrapper: Callable[..., Any]) -> _Function:
    """Returns `wrapper` with the name and the signature of `function`, which it calls."""
    dressed: Any = wraps(function)(wrapper)
    # FastAPI reads an endpoint's annotations, some versions in the module of the wrapper.
    with suppress(Exception):  # an annotation that cannot be evaluated is the host's matter
        dressed.__signature__ = inspect.signature(function, eval_str=True)
    return cast("_Function", dressed)


class Around:
    """A context manager and a decorator of functions and generators, sync or async."""

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *raised: object) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *raised: object) -> None:
        self.__exit__(*raised)

    def __call__(self, function: _Function) -> _Function:
        """Returns `function`, wrapped so that this is entered around its work."""
        wrapped: Callable[..., Any]
        if inspect.isasyncgenfunction(function):
            wrapped = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapped = self._around_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapped = self._around_coroutine(function)
        else:
            wrapped = self._around_function(function)
        return dressed_as(function, wrapped)

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                result = function(*args, **kwargs)
            # What a plain function returns may do the work only later: it may call an async one.
            if inspect.iscoroutine(result):
                return self._awaited(result)
            if inspect.isgenerator(result):
                return self._around_generator(lambda: result)()
            if inspect.isasyncgen(result):
                return self._around_async_generator(lambda: result)()
            return result

        return inside

    async def _awaited(self, call: Coroutine[Any, Any, Any]) -> Any:
        with self:
            return await call

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return inside

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Enters the context manager for each step of the generator, not while its consumer runs.

        What the consumer sends, throws and closes reaches the generator as by `yield from`.
        """

        def inside(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = function(*args, **kwargs)
            step = partial(next, inner)
            while True:
                try:
                    with self:
                        value = step()
                except StopIteration as end:
                    return end.value
                finally:
                    # An exception that `step` keeps would keep this frame: a reference cycle.
                    del step
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

        return inside

    def _around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def inside(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            inner = function(*args, **kwargs)
            step = inner.__anext__
            while True:
                try:
                    with self:
                        value = await step()
                except StopAsyncIteration:
                    return
                finally:
                    del step  # as above
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

        return inside
