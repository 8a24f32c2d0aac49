"""LLM calls, tools and agents, through langchain-core's own callback managers on every path."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_coach import compatibility
from otel_coach.guards import OwnThread, guarded
from otel_coach.instrumentors.langchain.managers import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

    from otel_coach.instrumentors.langchain.observer import RunObserver
    from otel_coach.instrumentors.langchain.runs import Run
    from otel_coach.recorder import Recorder

_HELD_IN: Final = {"langchain_core.language_models", "langchain_core.tools"}


class LangChainInstrumentor(BaseInstrumentor):
    """Observes every run of the process.

    `instrument` takes the arguments of `RunObserver`. LangChain itself is not imported: its
    callback managers are observed from when the host imports them.
    """

    _arguments: dict[str, Any]
    observer: RunObserver | None = None
    """Who is told, once LangChain is there."""
    _undo: ExitStack | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing is required: what the host never imports is never touched."""
        return ()

    @property
    def recorder(self) -> Recorder:
        """Where faults go."""
        return self._arguments["recorder"]

    def _instrument(self, **kwargs: Any) -> None:
        self._arguments = kwargs
        wrapt.register_post_import_hook(self._observe, "langchain_core.callbacks.manager")

    def _uninstrument(self, **_kwargs: Any) -> None:
        self._arguments = {}
        self.observer = None
        if self._undo is not None:
            self._undo.close()
            self._undo = None

    @guarded  # what is raised here would break the host's own import
    def _observe(self, module: ModuleType) -> None:
        # An import hook cannot be taken back: this may be an older one, or come too late.
        if not self._arguments or self._undo is not None:
            return
        from otel_coach.instrumentors.langchain import observer  # noqa: PLC0415 - only with LangChain

        ids_tell = compatibility.holds(compatibility.RUN_IDS)
        with ExitStack() as undo:
            for one in observed(module, self):
                undo.callback(one)
            self.observer = observer.RunObserver(**self._arguments, ids_tell=ids_tell)
            self._undo = undo.pop_all()

    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Count as aborted those open runs that nobody will report any more."""
        if self.observer is not None:
            self.observer.end_runs(which)

    @guarded
    def start(self) -> None:
        """The process begins to serve: import the price list, which no answer should wait for.

        Not before, because a process that forks in the middle of an import is lost.
        """
        if self.observer is None:
            return
        prices = self._arguments["prices"]
        OwnThread(prices.load, "otel-coach-prices", self.recorder.fault).start()
        if _HELD_IN.issubset(sys.modules):  # what the host never imports is never touched
            compatibility.holds(compatibility.HOLDERS)
