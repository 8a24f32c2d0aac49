"""`watch_dependency`: counts the application's own checks of its dependencies as probes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from concurrent.futures import Future
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_coach.core import compatibility
from otel_coach.core.around import dressed_as
from otel_coach.core.open_blocks import OpenBlocks
from otel_coach.instrumentors.dependencies.health import note

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_logger = logging.getLogger("otel_coach")

_Check = TypeVar("_Check", bound="Callable[..., Any]")

decorated = set[str]()
"""The dependencies that have a decorated check; the log line at the start names them."""
_warned_of = set[str]()
"""The dependencies of which the log has said that their check returns an awaitable."""
_MAX_NAMES: Final = 1000
_FALSE: Final = "it returned False"
_kept_exception: Final = attrgetter("_exception")


class Watch:
    """A context manager and decorator for a check of the application, sync or async.

    The check counts as failed if it raises, or if the decorated function returns False; its
    exception or result is passed on unchanged. One object may be used by several tasks and threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._latest = 0.0
        """When the latest block was entered: for a block that is left in another context."""

    def _note(self, started: float, failure: str | None) -> None:
        note(self._name, perf_counter() - started, failure)

    def __call__(self, check: _Check) -> _Check:
        """Returns `check`, wrapped so that each call is recorded.

        Raises:
            TypeError: `check` is a generator: the end of its check cannot be known.
        """
        if inspect.isgeneratorfunction(check) or inspect.isasyncgenfunction(check):
            message = (
                f"watch_dependency({self._name!r}) takes a function that returns when the check is "
                f"over; {getattr(check, '__name__', 'this one')} is a generator. Put the check "
                f"into a block inside of it: with watch_dependency({self._name!r}): ..."
            )
            raise TypeError(message)
        if len(decorated) < _MAX_NAMES:
            decorated.add(self._name)
        if inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
            getattr(check, "__call__", None)  # noqa: B004 - an object with an async __call__
        ):

            async def watched_async(*args: Any, **kwargs: Any) -> Any:
                return await self._awaited(check(*args, **kwargs), perf_counter())

            return dressed_as(check, watched_async)

        def watched(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                result = check(*args, **kwargs)
            except Exception as raised:
                self._note(started, type(raised).__name__)
                raise
            if inspect.iscoroutine(result):  # a plain function that returns an async one's call
                return self._awaited(result, started)
            # Of asyncio, or of a thread pool.
            if asyncio.isfuture(result) or isinstance(result, Future):
                done: Any = functools.partial(self._note_future, started)
                result.add_done_callback(done)
            elif inspect.isawaitable(result):
                self._warn_of(result)
            else:
                self._note(started, _FALSE if result is False else None)
            return result

        return dressed_as(check, watched)

    def _warn_of(self, result: object) -> None:
        """Logs, once for each dependency, that a check is not recorded because it has yet to run.

        To wrap the object would take from it what it can do besides being awaited.
        """
        if self._name not in _warned_of and len(_warned_of) < _MAX_NAMES:
            _warned_of.add(self._name)
            _logger.warning(
                "otel-coach: the check of watch_dependency(%r) returns a %s, which runs only when "
                "it is awaited: it is not recorded. Cure: make the check an `async def` that "
                "awaits it",
                self._name,
                type(result).__qualname__,
            )

    def _note_future(self, started: float, future: Future[Any]) -> None:
        if not future.cancelled():
            raised = _exception_of(future)
            failure = _FALSE if raised is None and future.result() is False else None
            self._note(started, failure if raised is None else type(raised).__name__)

    async def _awaited(self, call: Coroutine[Any, Any, Any], started: float) -> Any:
        """Awaits the application's call, and records it."""
        try:
            result = await call
        except Exception as raised:
            self._note(started, type(raised).__name__)
            raise
        self._note(started, _FALSE if result is False else None)
        return result

    def __enter__(self) -> None:
        self._latest = started = perf_counter()
        _open.enter(self, started)

    def __exit__(self, kind: type[BaseException] | None, *_raised: object) -> None:
        left = _open.leave(self)
        started = self._latest if left is None else left.started
        # A cancelled check says nothing about the dependency: it is not recorded.
        if kind is None or issubclass(kind, Exception):
            self._note(started, None if kind is None else kind.__name__)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self.__exit__(kind, *raised)


def _exception_of(future: Future[Any]) -> BaseException | None:
    """Returns what a future that is done raised.

    Asking an asyncio future for its exception marks it as retrieved: the event loop would then no
    longer log the exception of a task that the application never awaits.
    """
    if asyncio.isfuture(future) and compatibility.holds(compatibility.FUTURES):
        return _kept_exception(future)
    return future.exception()


def keeps_exceptions() -> bool:
    """Returns whether asyncio's futures have what they raised in `_exception`.

    It opens no event loop: a check may fail because no file descriptor is left.
    """
    future = asyncio.Future[None](loop=_NoLoop())
    future.set_exception(raised := ValueError())
    return _kept_exception(future) is raised and future.exception() is raised


class _NoLoop(asyncio.AbstractEventLoop):
    def get_debug(self) -> bool:
        return False


_open: OpenBlocks[Watch] = OpenBlocks("otel_coach_watched")


def watch_dependency(name: str) -> Watch:
    """Counts a check by the application as a probe of the dependency `name`.

    A decorator and a context manager, for sync and async code::

        @watch_dependency("postgres_django")
        async def check() -> None: ...

        with watch_dependency("redis"):
            client.ping()

    The check has failed if it raises, or if the decorated function returns False. Does nothing
    while otel-coach is not active.

    Raises:
        TypeError: `name` is a function: the decorator has no name.
    """
    if callable(name):
        message = (
            "watch_dependency takes the dependency's name: "
            f'@watch_dependency("postgres"), not {type(name).__name__}'
        )
        raise TypeError(message)
    return Watch(name)
