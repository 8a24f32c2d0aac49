"""The base class of otel-coach's instrumentors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from weakref import WeakSet

    OnceForAll = Callable[[str, Callable[[], None]], None]

_logger = logging.getLogger("otel_coach")


class Instrumentor:
    """The interface of OpenTelemetry's `BaseInstrumentor`, and hooks that are called while active.

    A hook that an instrumentor does not override does nothing. There is one object of each class.

    It does not derive from `BaseInstrumentor`, whose modules take half as long to import as all of
    otel-coach. They would only check requirements, of which otel-coach has none.
    """

    _instance: ClassVar[Instrumentor | None] = None
    _is_instrumented = False
    apps: WeakSet[Any] | None = None
    """The applications that are watched, by an instrumentor that tells them apart; None for all."""

    def __new__(cls) -> Self:
        if not isinstance(cls._instance, cls):
            cls._instance = object.__new__(cls)
        return cls._instance

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is active."""
        return self._is_instrumented

    def instrumentation_dependencies(self) -> Collection[str]:
        """Returns no requirements: a library that the host never imports is never touched."""
        return ()

    def instrument(
        self, *, skip_dep_check: bool = True, apps: WeakSet[Any] | None = None, **kwargs: Any
    ) -> None:
        """Starts it with its arguments; there are no dependencies to check."""
        del skip_dep_check
        if self._is_instrumented:
            _logger.warning("otel-coach: %s is already active", type(self).__name__)
            return
        self.apps = apps
        self._instrument(**kwargs)
        self._is_instrumented = True

    def uninstrument(self, **kwargs: Any) -> None:
        """Stops it, and gives back what it has replaced."""
        if not self._is_instrumented:
            _logger.warning("otel-coach: %s is not active", type(self).__name__)
            return
        self._uninstrument(**kwargs)
        self._is_instrumented = False

    def _instrument(self, **kwargs: Any) -> None:
        raise NotImplementedError

    def _uninstrument(self, **kwargs: Any) -> None:
        raise NotImplementedError

    def watch_also(self, app: object) -> None:
        """Called instead of another `instrument`, to add `app`; None adds all applications."""

    def start(self, once_for_all: OnceForAll) -> None:
        """Called when the process begins to serve.

        `once_for_all(task, begin)` calls `begin` in only one process of the service.
        """

    def end_runs(self, which: Callable[[Any], bool]) -> None:
        """Ends the open runs for which `which` is true, since nothing else can report their end."""
