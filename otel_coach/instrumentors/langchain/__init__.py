"""Instrumentation of LLM calls, tools and agents by langchain-core's callback managers."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import wrapt

from otel_coach.core import compatibility
from otel_coach.core.guard import OwnThread, guarded
from otel_coach.instrumentors.base import Instrumentor
from otel_coach.instrumentors.langchain.manager_patches import observed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from otel_coach.instrumentors.base import OnceForAll
    from otel_coach.instrumentors.langchain.observer import RunObserver
    from otel_coach.instrumentors.langchain.open_runs import Run
    from otel_coach.metrics.recorder import Recorder

_OWNER_MODULES: Final = {"langchain_core.language_models", "langchain_core.tools"}


class LangChainInstrumentor(Instrumentor):
    """Observes every LangChain run of the process.

    `instrument` takes the arguments of `RunObserver`. LangChain itself is not imported: its
    callback managers are patched when the host imports them.
    """

    _arguments: dict[str, Any]
    observer: RunObserver | None = None
    """Notified of every run; None until the host imports LangChain."""
    _undo: ExitStack | None = None

    @property
    def recorder(self) -> Recorder:
        """The recorder, which counts otel-coach's own errors."""
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

    @guarded  # an exception here would break the host's own import
    def _observe(self, module: ModuleType) -> None:
        # An import hook cannot be unregistered: one of an earlier `instrument` may still be called,
        # also after `uninstrument`.
        if not self._arguments or self._undo is not None:
            return
        from otel_coach.instrumentors.langchain import observer  # noqa: PLC0415 - only with LangChain

        ids_tell = compatibility.holds(compatibility.RUN_IDS)
        with ExitStack() as undo:
            for restore in observed(module, self):
                undo.callback(restore)
            self.observer = observer.RunObserver(**self._arguments, ids_tell=ids_tell)
            self._undo = undo.pop_all()

    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open runs for which `which` is true, and counts them as aborted."""
        if self.observer is not None:
            self.observer.end_runs(which)

    @guarded
    def start(self, once_for_all: OnceForAll) -> None:
        """Imports the price list in a thread, so that no response has to wait for it.

        This must not begin before the process serves: a process that is forked in the middle of an
        import cannot be used.
        """
        if self.observer is None:
            return
        prices = self._arguments["prices"]
        OwnThread(prices.load, "otel-coach-prices", self.recorder.fault).start()
        if _OWNER_MODULES.issubset(sys.modules):  # what the host has not imported is left alone
            compatibility.holds(compatibility.HOLDERS)
