"""Requests, streams, auth failures and rate limits, watched around the whole ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_coach import compatibility
from otel_coach.guards import guarded
from otel_coach.patches import replaced, undone

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

    from otel_coach.instrumentors.asgi.layer import Layer
    from otel_coach.recorder import Recorder

_PATCHED: Final = {
    "starlette.applications": "Starlette",
    "fastapi.applications": "FastAPI",
}
"""Application classes by module. Both: a FastAPI of 0.165 acts before its Starlette part."""
_PARTS: Final = {
    "fastapi.applications": (compatibility.NATIVE_TELEMETRY, compatibility.FRONTENDS),
}
"""What is relied on in them."""


class AsgiInstrumentor(BaseInstrumentor):
    """Puts a layer around every Starlette and FastAPI application of the process.

    `instrument` takes the keyword arguments of `Layer` and, optionally, `app`: then only the
    applications handed over so are watched, and it may be called again for a further one.
    """

    _layer_arguments: dict[str, Any]
    _layer: Layer | None = None
    _only: WeakSet[Any] | None = None
    _undo: dict[str, Callable[[], None]]

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing is required: what the host never imports is never touched."""
        return ()

    @property
    def recorder(self) -> Recorder:
        """Where faults go."""
        return self._layer_arguments["recorder"]

    def watch_also(self, app: object) -> None:
        """Watch `app` too, where only some applications are watched; None for all."""
        if app is None:
            self._only = None
        elif self._only is not None:
            self._only.add(app)

    def _watches(self, app: object) -> bool:
        return self._only is None or app in self._only

    def _instrument(self, **kwargs: Any) -> None:
        app = kwargs.pop("app", None)
        self._only = None if app is None else WeakSet([app])
        self._layer_arguments = kwargs
        self._undo = {}
        for module in _PATCHED:
            wrapt.register_post_import_hook(self._patch, module)

    def _uninstrument(self, **_kwargs: Any) -> None:
        undone(self._undo.values())
        self._undo.clear()
        self._layer_arguments = {}
        self._layer = None

    @guarded  # what is raised here would break the host's own import
    def _patch(self, module: ModuleType) -> None:
        # An import hook cannot be taken back: this may be an older one, or come too late.
        if not self._layer_arguments or module.__name__ in self._undo:
            return
        if self._layer is None:
            from otel_coach.instrumentors.asgi.layer import Layer  # noqa: PLC0415 - needs starlette

            watches = None if self._only is None else self._watches
            self._layer = Layer(**self._layer_arguments, watches=watches)
        for part in _PARTS.get(module.__name__, ()):
            compatibility.holds(part)  # there is no other way: a line says what is lost
        cls = getattr(module, _PATCHED[module.__name__])
        self._undo[module.__name__] = replaced(cls, "__call__", self._layer.around)
