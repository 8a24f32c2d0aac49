"""Instrumentation of LangChain: models, tools, agents and retrievers, and embedding models."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack

from otel_coach.core import compatibility, library_tasks
from otel_coach.core.guard import guarded
from otel_coach.core.import_hooks import when_imported
from otel_coach.core.stop_rule import stopping_patches
from otel_coach.instrumentors.base import Instrumentor
from otel_coach.instrumentors.genai.enclosing import register
from otel_coach.instrumentors.genai.price_age import observe_age
from otel_coach.instrumentors.langchain.cached_answers import CONVERT
from otel_coach.instrumentors.langchain.manager_patches import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from otel_coach.instrumentors.base import OnceForAll
    from otel_coach.instrumentors.genai.run_recorder import RunArguments
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.instrumentors.langchain.embeddings import EmbeddingPatches
    from otel_coach.instrumentors.langchain.observer import RunObserver
    from otel_coach.metrics.recorder import Recorder

_OWNER_MODULES: Final = {"langchain_core.language_models", "langchain_core.tools"}
_PACKAGES: Final = ("langchain", "langgraph")
"""Prefixes of the names of modules: LangChain's, its integrations' and LangGraph's."""


class LangChainInstrumentor(Instrumentor):
    """Observes every LangChain run of the process.

    `instrument` takes `ModelArguments`. LangChain itself is not imported: its
    callback managers and its embedding models are patched when the host imports them.
    """

    _arguments: RunArguments | None = None
    _stops = False
    observer: RunObserver | None = None
    """Notified of every run; None until the host imports LangChain."""
    _undo: ExitStack | None = None
    _watches_caches = False
    _embeddings: EmbeddingPatches | None = None

    @property
    def recorder(self) -> Recorder:
        """The recorder, which counts otel-coach's own errors."""
        assert self._arguments is not None  # noqa: S101 # nosec B101 - for the type
        return self._arguments["recorder"]

    def _instrument(self, *, stops: bool = False, **kwargs: Unpack[RunArguments]) -> None:
        self._stops, self._arguments = stops, kwargs
        when_imported("langchain_core.callbacks.manager", self._observe)
        when_imported("langchain_core.language_models.chat_models", self._watch_caches)
        when_imported("langchain_core.embeddings.embeddings", self._observe_embeddings)

    def _uninstrument(self, **_kwargs: Any) -> None:
        self._arguments = None
        self.observer = None
        self._watches_caches = False
        undo, self._undo = self._undo, None  # first: the undo may raise
        if undo is not None:
            undo.close()
        if self._embeddings is not None:
            self._embeddings.undo()
            self._embeddings = None

    @guarded  # an exception here would break the host's own import
    def _observe(self, module: ModuleType) -> None:
        # An import hook cannot be unregistered: one of an earlier `instrument` may still be called,
        # also after `uninstrument`.
        if not self._arguments or self._undo is not None:
            return
        from otel_coach.instrumentors.langchain import event_feeders, observer  # noqa: PLC0415 - only with LangChain

        ids_are_freed = compatibility.holds(compatibility.RUN_IDS)
        with ExitStack() as undo:
            for restore in observed(module, self):
                undo.callback(restore)
            self.observer = observer.RunObserver(**self._arguments, ids_are_freed=ids_are_freed)
            undo.callback(register(self.observer.enclosing))
            tasks = library_tasks.LibraryTasks(_PACKAGES, event_feeders.feeds_events)
            undo.callback(library_tasks.register(tasks))
            undo.callback(stopping_patches.add(partial(self._stopping, module), now=self._stops))
            observe_age(self.recorder, self._arguments["prices"])
            self._undo = undo.pop_all()

    def _stopping(self, module: ModuleType) -> Iterator[Callable[[], None]]:
        from otel_coach.instrumentors.langchain import stopping_managers  # noqa: PLC0415 - only where asked for

        yield from stopping_managers.refusing(module, self)
        yield stopping_managers.replacing_unreported(self.recorder).undo

    @guarded
    def _watch_caches(self, module: Any) -> None:
        # The module imports the callback managers first, so there is an observer by now.
        if self.observer is None or self._undo is None or self._watches_caches:
            return
        if hasattr(module.BaseChatModel, CONVERT):
            self._watches_caches = True
            self._undo.callback(self.observer.cached_answers.watch(module.BaseChatModel))

    @guarded
    def _observe_embeddings(self, module: ModuleType) -> None:
        if not self._arguments or self._embeddings is not None:
            return
        if not compatibility.holds(compatibility.EMBEDDINGS):
            return
        from otel_coach.instrumentors.langchain import embeddings  # noqa: PLC0415 - only with LangChain

        observer = embeddings.EmbeddingObserver(module.Embeddings, **self._arguments)
        self._embeddings = embeddings.EmbeddingPatches(module.Embeddings, observer)

    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open runs for which `which` is true, and counts them as aborted."""
        if self.observer is not None:
            self.observer.end_runs(which)
        if self._embeddings is not None and self._embeddings.observer is not None:
            self._embeddings.observer.end_calls(which)

    @guarded
    def start(self, once_for_all: OnceForAll) -> None:
        """Patches embedding classes whose definition was not noticed, then tries a private part.

        A base class that does not call `Embeddings.__init_subclass__` hides the definition. Only a
        serving process needs the private part, LangChain's owner tasks.
        """
        if self._embeddings is not None:
            self._embeddings.patch_all()
        if self.observer is None:
            return
        if _OWNER_MODULES.issubset(sys.modules):  # what the host has not imported is left alone
            compatibility.holds(compatibility.OWNER_TASKS)
