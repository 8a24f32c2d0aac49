"""`watch_dependency`: counts the application's own checks of its dependencies as probes."""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from otel_coach.instrumentors.dependencies.health import note

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_Check = TypeVar("_Check", bound="Callable[..., Any]")


class Watch:
    """A context manager and decorator for a check of the application, sync or async.

    The check counts as failed if it raises; its exception or result is passed on unchanged.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @contextmanager
    def _watched(self) -> Generator[None]:
        # A cancelled check says nothing about the dependency: it is not recorded.
        started = perf_counter()
        try:
            yield
        except Exception as raised:
            note(self._name, perf_counter() - started, type(raised).__name__)
            raise
        else:
            note(self._name, perf_counter() - started, None)

    def __call__(self, check: _Check) -> _Check:
        """Returns `check`, wrapped so that each call is recorded."""
        if inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
            getattr(check, "__call__", None)  # noqa: B004 - an object with an async __call__
        ):

            @functools.wraps(check)
            async def watched_async(*args: Any, **kwargs: Any) -> Any:
                with self._watched():
                    return await check(*args, **kwargs)

            return cast("_Check", watched_async)

        @functools.wraps(check)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self._watched():
                return check(*args, **kwargs)

        return cast("_Check", watched)

    def __enter__(self) -> None:
        self._entered = self._watched()
        self._entered.__enter__()

    def __exit__(self, *raised: object) -> bool | None:
        return self._entered.__exit__(*raised)  # type: ignore[arg-type]

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *raised: object) -> bool | None:
        return self.__exit__(*raised)


def watch_dependency(name: str) -> Watch:
    """Counts a check by the application as a probe of the dependency `name`.

    A decorator and a context manager, for sync and async code::

        @watch_dependency("postgres_django")
        async def check() -> None: ...

        with watch_dependency("redis"):
            client.ping()

    Does nothing while otel-coach is not active.
    """
    return Watch(name)
