"""Instrumentation of ASGI applications: requests, streams, auth failures and rate limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict, Unpack

from otel_coach.core import compatibility
from otel_coach.core.guard import guarded
from otel_coach.core.import_hooks import when_imported
from otel_coach.core.patching import replace_method, undo_all
from otel_coach.instrumentors.base import Instrumentor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from opentelemetry.trace import Tracer

    from otel_coach.core.announcement import AnnounceOnce
    from otel_coach.core.asgi_types import Scope
    from otel_coach.core.stop_rule import StopRule
    from otel_coach.instrumentors.asgi.middleware import Middleware, Page
    from otel_coach.metrics.recorder import Recorder

    class AsgiArguments(TypedDict):
        """The arguments of `Middleware` except `watches`; `Middleware` describes them."""

        recorder: Recorder
        tracer: Tracer | None
        credential_headers: frozenset[str]
        excluded_urls: NotRequired[str]
        trusts: NotRequired[Callable[[Scope], bool] | None]
        page: NotRequired[Page | None]
        on_start: NotRequired[Callable[[], None] | None]
        on_stop: NotRequired[Callable[[object], None] | None]
        stops: NotRequired[Callable[[str], StopRule | None] | None]
        on_routes: NotRequired[Callable[[Sequence[str]], None] | None]
        announce: NotRequired[AnnounceOnce | None]


_PATCHED: Final = {
    "starlette.applications": "Starlette",
    "fastapi.applications": "FastAPI",
}
"""Application classes by module. FastAPI's is patched, too, because the `__call__` of FastAPI
0.165 runs code of its own before it calls Starlette's."""
_STOPPING: Final = "stopping"
_ROUTERS: Final = "routers"
"""Keys of `AsgiInstrumentor._undo`, besides the modules in `_PATCHED`."""
_PARTS: Final = {
    "fastapi.applications": (compatibility.NATIVE_TELEMETRY, compatibility.FRONTENDS),
}
"""Private parts of these modules that otel-coach relies on."""


class AsgiInstrumentor(Instrumentor):
    """Puts otel-coach's middleware around every Starlette and FastAPI application of the process.

    `instrument` takes `AsgiArguments` and, optionally, `apps`: then only these applications are
    watched, and those that `watch_also` adds.
    """

    _arguments: AsgiArguments | None = None
    _middleware: Middleware | None = None
    _undo: dict[str, Callable[[], None]]

    @property
    def recorder(self) -> Recorder:
        """The recorder, which counts otel-coach's own errors."""
        assert self._arguments is not None  # noqa: S101 # nosec B101 - for the type
        return self._arguments["recorder"]

    def watch_also(self, app: object) -> None:
        """Watches `app` too, if only some applications are watched; None watches all of them."""
        if app is None:
            self.apps = None
        elif self.apps is not None:
            self.apps.add(app)

    def _watches(self, app: object) -> bool:
        return self.apps is None or app in self.apps

    def _instrument(self, **kwargs: Unpack[AsgiArguments]) -> None:
        self._arguments = kwargs
        self._undo = {}
        for module in _PATCHED:
            when_imported(module, self._patch)

    def _uninstrument(self, **_kwargs: Any) -> None:
        undo_all(self._undo.values())
        self._undo.clear()
        self._arguments = None
        self._middleware = None

    @guarded  # an exception here would break the host's own import
    def _patch(self, module: ModuleType) -> None:
        # An import hook cannot be unregistered: one of an earlier `instrument` may still be called,
        # also after `uninstrument`.
        if not self._arguments or module.__name__ in self._undo:
            return
        if self._middleware is None:
            from otel_coach.instrumentors.asgi.middleware import Middleware  # noqa: PLC0415 - needs starlette

            watches = None if self.apps is None else self._watches
            self._middleware = Middleware(**self._arguments, watches=watches)
            self._undo[_STOPPING] = self._middleware.add_stopping()
            self._undo[_ROUTERS] = self._middleware.restore_routers
        for part in _PARTS.get(module.__name__, ()):
            compatibility.holds(part)  # only logs what is lost: there is no alternative
        cls = getattr(module, _PATCHED[module.__name__])
        self._undo[module.__name__] = replace_method(cls, "__call__", self._middleware.around)
