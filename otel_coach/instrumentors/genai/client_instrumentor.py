"""The base class of the instrumentors of providers' packages."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, Unpack

from otel_coach.core import compatibility
from otel_coach.core.guard import guarded
from otel_coach.core.import_hooks import when_imported
from otel_coach.core.library_tasks import LibraryTasks, register
from otel_coach.core.stop_rule import stopping_patches
from otel_coach.instrumentors.base import Instrumentor
from otel_coach.instrumentors.genai.price_age import observe_age

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from otel_coach.core.announcement import AnnounceOnce
    from otel_coach.core.compatibility import PrivatePart
    from otel_coach.instrumentors.genai.client_calls import ClientCalls
    from otel_coach.instrumentors.genai.provider_package import ProviderPackage
    from otel_coach.instrumentors.genai.run_recorder import ModelArguments, RunArguments
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.recorder import Recorder

    class ClientArguments(ModelArguments):
        """The arguments of a `ClientInstrumentor`."""

        announce: NotRequired[AnnounceOnce | None]
        """Logs a line about a topic, once."""


class ClientInstrumentor(Instrumentor):
    """Measures the calls by the clients of one package, from when the host imports it.

    `instrument` takes `ClientArguments`.
    """

    module: ClassVar[str]
    """The package's name."""
    clients: ClassVar[str]
    """The name of its client's class; the asynchronous one has `Async` in front."""
    part: ClassVar[PrivatePart]
    """What is relied on in the package."""

    _arguments: RunArguments | None = None
    _announce: AnnounceOnce | None = None
    _stops = False
    calls: ClientCalls | None = None
    """None until the host imports the package."""
    _undo: ExitStack | None = None

    def package(self) -> ProviderPackage:
        """Returns what is known of the package; called once it is imported."""
        raise NotImplementedError

    @property
    def recorder(self) -> Recorder:
        """The recorder, which counts otel-coach's own errors."""
        assert self._arguments is not None  # noqa: S101 # nosec B101 - for the type
        return self._arguments["recorder"]

    def _instrument(
        self,
        *,
        stops: bool = False,
        announce: AnnounceOnce | None = None,
        **kwargs: Unpack[RunArguments],
    ) -> None:
        self._stops, self._announce, self._arguments = stops, announce, kwargs
        when_imported(self.module, self._patch)

    def _uninstrument(self, **_kwargs: Any) -> None:
        self._announce = self._arguments = None
        self.calls = None
        undo, self._undo = self._undo, None  # first: the undo may raise
        if undo is not None:
            undo.close()

    @guarded  # an exception here would break the host's own import
    def _patch(self, module: ModuleType) -> None:
        # An import hook cannot be unregistered: one of an earlier `instrument` may still be called,
        # also after `uninstrument`.
        arguments = self._arguments
        if not arguments or self._undo is not None or not compatibility.holds(self.part):
            return
        from otel_coach.instrumentors.genai.client_calls import ClientCalls  # noqa: PLC0415 - only with a package

        calls = ClientCalls(self.package(), self._announce, **arguments)
        with ExitStack() as undo:
            undo.callback(calls.deactivate)  # a wrapped patch cannot be removed
            for client, is_async in self._clients_of(module):
                for restore in calls.patch([client], is_async=is_async):
                    undo.callback(restore)
            stopping = partial(self._stopping, module, calls)
            undo.callback(stopping_patches.add(stopping, now=self._stops))
            undo.callback(register(LibraryTasks((self.module,))))
            observe_age(arguments["recorder"], arguments["prices"])
            self.calls = calls
            self._undo = undo.pop_all()

    def _clients_of(self, module: ModuleType) -> list[tuple[type, bool]]:
        """Returns the classes of the clients, and whether each is asynchronous."""
        return [(getattr(module, prefix + self.clients), bool(prefix)) for prefix in ("", "Async")]

    def _stopping(self, module: ModuleType, calls: ClientCalls) -> Iterator[Callable[[], None]]:
        from otel_coach.instrumentors.genai.stopping_client_calls import StoppingClientCalls  # noqa: PLC0415 - only where asked for

        stopping = StoppingClientCalls(calls)
        for client, is_async in self._clients_of(module):
            yield from stopping.patch(client, is_async=is_async)

    @guarded
    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open calls for which `which` is true, and counts them as aborted."""
        if self.calls is not None:
            self.calls.end_runs(which)
