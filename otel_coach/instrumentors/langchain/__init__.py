"""LLM calls, tools and agents, through langchain-core's own callbacks on every path."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_coach.guards import guarded
from otel_coach.instrumentors.langchain import starts, tokens
from otel_coach.patches import undone

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import ModuleType

    from otel_coach.instrumentors.langchain.handler import CoachCallbackHandler
    from otel_coach.instrumentors.langchain.runs import Run
    from otel_coach.recorder import Recorder


class LangChainInstrumentor(BaseInstrumentor):
    """Adds one callback handler to every run of the process.

    `instrument` takes the arguments of `CoachCallbackHandler`. LangChain itself is not imported:
    the handler is added when the host imports it.
    """

    _arguments: dict[str, Any]
    _hooks: list[Any] | None = None
    _hook: Any = None
    listener: CoachCallbackHandler | None = None
    """The handler, once LangChain is there."""
    _undo: Sequence[Callable[[], None]] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing is required: what the host never imports is never touched."""
        return ()

    @property
    def recorder(self) -> Recorder:
        """Where faults go."""
        return self._arguments["recorder"]

    def _instrument(self, **kwargs: Any) -> None:
        self._arguments = kwargs
        wrapt.register_post_import_hook(self._register, "langchain_core.tracers.context")
        wrapt.register_post_import_hook(self._watch_managers, "langchain_core.callbacks.manager")

    def _uninstrument(self, **_kwargs: Any) -> None:
        self._arguments = {}
        if self._hooks is not None and self._hook in self._hooks:
            self._hooks.remove(self._hook)
        undone(self._undo)
        self._undo = ()
        self._hooks = self._hook = self.listener = None

    @guarded  # what is raised here would break the host's own import
    def _register(self, module: ModuleType) -> None:
        # An import hook cannot be taken back: this may be an older one, or come too late.
        if not self._arguments or self._hook is not None:
            return
        from otel_coach.instrumentors.langchain import handler  # noqa: PLC0415 - needs LangChain

        self.listener = handler.CoachCallbackHandler(**self._arguments)
        variable = ContextVar("otel_coach_handler", default=self.listener)
        module.register_configure_hook(variable, inheritable=True)
        # LangChain has no way to take a hook back; its list is the only one.
        self._hooks = module._configure_hooks  # noqa: SLF001
        self._hook = self._hooks[-1] if self._hooks else None

    @guarded
    def _watch_managers(self, module: ModuleType) -> None:
        if self._arguments and not self._undo:
            self._undo = (
                *starts.watch_starts(module.AsyncCallbackManager, self._look_at_start),
                *tokens.watch_tokens(module, self),
            )

    @guarded
    def _look_at_start(self, manager: Any, name: str) -> starts.Start:
        return starts.start_of(manager, name)

    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Count as aborted those open runs that nobody will report any more."""
        if self.listener is not None:
            self.listener.end_runs(which)

    @guarded
    def start(self) -> None:
        """The process begins to serve: import the price list, which no answer should wait for.

        Not before, because a process that forks in the middle of an import is lost.
        """
        if self._hook is not None:
            prices = self._arguments["prices"]
            threading.Thread(target=prices.load, name="otel-coach-prices", daemon=True).start()
