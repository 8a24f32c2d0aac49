"""LLM calls, tools and agents, through langchain-core's own callback managers on every path."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_coach.guards import guarded
from otel_coach.instrumentors.langchain.managers import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

    from otel_coach.instrumentors.langchain.observer import RunObserver
    from otel_coach.instrumentors.langchain.runs import Run
    from otel_coach.recorder import Recorder


_logger = logging.getLogger("otel_coach")


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

        with ExitStack() as undo:  # all of it or nothing: half would be runs without an end
            try:
                for one in observed(module, self):
                    undo.callback(one)
            except (AttributeError, KeyError) as missing:
                _logger.error(  # noqa: TRY400 - one line with the cure
                    "otel-coach: This langchain-core has no %s; LLM calls, tools, agents are not "
                    "measured. Install the newest otel-coach, or langchain-core 0.3 to 1.x.",
                    missing,
                )
                raise
            self.observer = observer.RunObserver(**self._arguments)
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
        if self.observer is not None:
            prices = self._arguments["prices"]
            threading.Thread(target=prices.load, name="otel-coach-prices", daemon=True).start()
