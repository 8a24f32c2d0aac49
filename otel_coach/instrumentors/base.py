"""The base class of otel-coach's instrumentors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    OnceForAll = Callable[[str, Callable[[], None]], None]


class Instrumentor(BaseInstrumentor):
    """OpenTelemetry's `BaseInstrumentor`, with hooks that are called while it is active.

    A hook that an instrumentor does not override does nothing.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Returns no requirements: a library that the host never imports is never touched."""
        return ()

    def watch_also(self, app: object) -> None:
        """Called instead of another `instrument`, to add `app`; None adds all applications."""

    def start(self, once_for_all: OnceForAll) -> None:
        """Called when the process begins to serve.

        `once_for_all(task, begin)` calls `begin` in only one process of the service.
        """

    def end_runs(self, which: Callable[[Any], bool]) -> None:
        """Ends the open runs for which `which` is true, since nothing else can report their end."""
