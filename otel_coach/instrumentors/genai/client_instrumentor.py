"""The base class of the instrumentors of providers' packages."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import wrapt

from otel_coach.core import compatibility
from otel_coach.core.guard import guarded
from otel_coach.core.library_tasks import LibraryTasks, register
from otel_coach.core.stop_rule import stopping_patches
from otel_coach.instrumentors.base import Instrumentor
from otel_coach.instrumentors.genai.price_age import observe_age

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from otel_coach.core.compatibility import PrivatePart
    from otel_coach.instrumentors.genai.client_calls import ClientCalls, Package
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.recorder import Recorder


class ClientInstrumentor(Instrumentor):
    """Measures the calls by the clients of one package, from when the host imports it.

    `instrument` takes the arguments of `RunRecorder`.
    """

    module: ClassVar[str]
    """The package's name."""
    clients: ClassVar[str]
    """The name of its client's class; the asynchronous one has `Async` in front."""
    part: ClassVar[PrivatePart]
    """What is relied on in the package."""

    _arguments: dict[str, Any]
    _stops = False
    calls: ClientCalls | None = None
    """None until the host imports the package."""
    _undo: ExitStack | None = None

    def package(self) -> Package:
        """Returns what is known of the package; called once it is imported."""
        raise NotImplementedError

    @property
    def recorder(self) -> Recorder:
        """The recorder, which counts otel-coach's own errors."""
        return self._arguments["recorder"]

    def _instrument(self, **kwargs: Any) -> None:
        self._stops = kwargs.pop("stops", False)
        self._arguments = kwargs
        wrapt.register_post_import_hook(self._patch, self.module)

    def _uninstrument(self, **_kwargs: Any) -> None:
        self._arguments = {}
        self.calls = None
        if self._undo is not None:
            self._undo.close()
            self._undo = None

    @guarded  # an exception here would break the host's own import
    def _patch(self, module: ModuleType) -> None:
        # An import hook cannot be unregistered: one of an earlier `instrument` may still be called,
        # also after `uninstrument`.
        if not self._arguments or self._undo is not None or not compatibility.holds(self.part):
            return
        from otel_coach.instrumentors.genai.client_calls import ClientCalls  # noqa: PLC0415 - only with a package

        calls = ClientCalls(self.package(), **self._arguments)
        with ExitStack() as undo:
            for client, is_async in self._clients_of(module):
                for restore in calls.patch([client], is_async=is_async):
                    undo.callback(restore)
            refusals = partial(self._refusals, module, calls)
            undo.callback(stopping_patches.add(refusals, now=self._stops))
            undo.callback(register(LibraryTasks((self.module,))))
            observe_age(self.recorder, self._arguments["prices"])
            self.calls = calls
            self._undo = undo.pop_all()

    def _clients_of(self, module: ModuleType) -> list[tuple[type, bool]]:
        """Returns the classes of the clients, and whether each is asynchronous."""
        return [(getattr(module, prefix + self.clients), bool(prefix)) for prefix in ("", "Async")]

    def _refusals(self, module: ModuleType, calls: ClientCalls) -> Iterator[Callable[[], None]]:
        from otel_coach.instrumentors.genai.refusals import Refusals  # noqa: PLC0415 - only where asked for

        refusals = Refusals(calls)
        for client, is_async in self._clients_of(module):
            yield refusals.patch(client, is_async=is_async)

    @guarded
    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open calls for which `which` is true, and counts them as aborted."""
        if self.calls is not None:
            self.calls.end_runs(which)
