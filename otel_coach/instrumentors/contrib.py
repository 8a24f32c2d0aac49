"""OpenTelemetry's contrib instrumentations of FastAPI and psycopg: their arguments and loading."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import NoOpMeterProvider

from otel_coach.core.guard import guarded
from otel_coach.core.import_hooks import when_imported
from otel_coach.core.patching import undo_all
from otel_coach.core.request_context import current_request
from otel_coach.core.spans import HandedOver
from otel_coach.instrumentors import FASTAPI, PSYCOPG

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
    from opentelemetry.trace import Span, TracerProvider

    from otel_coach.metrics.recorder import Recorder

_logger = logging.getLogger("otel_coach")

_CLASSES: Final = {FASTAPI: "FastAPIInstrumentor", PSYCOPG: "PsycopgInstrumentor"}


class ContribInstrumentations:
    """Loads contrib instrumentations, which send their spans to `tracer_provider`, and no metrics.

    `server_spans` says whether the contrib FastAPI instrumentation makes the server spans. If not,
    it is not used: otel-coach's ASGI middleware makes them.
    """

    def __init__(  # noqa: PLR0913 - keyword only, each a setting
        self,
        tracer_provider: TracerProvider,
        recorder: Recorder,
        *,
        server_spans: bool,
        excluded_urls: str,
        metrics_path: str,
        disables: Callable[[str], bool],
    ) -> None:
        self.recorder = recorder
        self._disables = disables
        self._psycopg: BaseInstrumentor | None = None
        self._is_stopped = False
        self._is_suspended = False
        self._waits_for_psycopg = False
        self._fastapi: dict[object, Callable[[], None]] = {}
        """What uninstruments FastAPI, by application; the key is None if all were instrumented at
        once."""
        page = f"^[^/]+//[^/]+{re.escape(metrics_path)}/?$"
        self._arguments: dict[str, dict[str, Any]] = {
            PSYCOPG: {"tracer_provider": tracer_provider, "capture_parameters": False}
        }
        if server_spans:
            self._arguments[FASTAPI] = {
                "tracer_provider": tracer_provider,
                "meter_provider": NoOpMeterProvider(),
                "exclude_spans": ["send", "receive"],
                "excluded_urls": ",".join(filter(None, (page, excluded_urls))),
                "server_request_hook": self._hand_over,
            }

    def arguments(self, name: str) -> Mapping[str, Any] | None:
        """Returns the arguments for the instrumentation `name`, None if it must not be used."""
        if name == FASTAPI and FASTAPI not in self._arguments:
            _logger.info(
                "otel-coach: opentelemetry-instrumentation-fastapi gives way to otel-coach's own "
                "server spans; OTEL_COACH_SERVER_SPANS=fastapi reverses this"
            )
            return None
        return self._arguments.get(name, {})

    @guarded
    def _hand_over(self, span: Span, _scope: object) -> None:
        """Stores the contrib server span on the current request, for the ASGI middleware.

        A mounted application has a span of its own, inside of the first.
        """
        request = current_request.get()
        if request is not None and request.server_span is None:
            request.server_span = HandedOver(span)

    def load_psycopg(self) -> None:
        """Arranges for psycopg to be instrumented as soon as the host imports it."""
        if not self._disables(PSYCOPG) and not self._waits_for_psycopg:
            self._waits_for_psycopg = True
            when_imported(PSYCOPG, self._load_psycopg)

    @guarded  # an exception here would break the host's own import
    def _load_psycopg(self, _module: object) -> None:
        if self._is_stopped or self._is_suspended:
            return
        instrumentor = contrib_instrumentor(PSYCOPG)
        if instrumentor is None or instrumentor.is_instrumented_by_opentelemetry:
            return
        instrumentor.instrument(skip_dep_check=True, **(self.arguments(PSYCOPG) or {}))
        self._psycopg = instrumentor

    def load_fastapi(self, app: object) -> None:
        """Instruments `app`, or every FastAPI application if it is None, to make the server spans.

        Does nothing if otel-coach's middleware makes them. The distro calls it, too, when
        `opentelemetry-instrument` loads the instrumentation.
        """
        arguments = self._arguments.get(FASTAPI)
        if arguments is None or self._disables(FASTAPI):
            return
        instrumentor: Any = contrib_instrumentor(FASTAPI)
        if instrumentor is None:
            return
        if app is not None:
            before = _middlewares_of(app)
            instrumentor.instrument_app(app, **arguments)
            if _middlewares_of(app) != before:  # else the application has instrumented it itself
                self._fastapi[app] = partial(instrumentor.uninstrument_app, app)
        elif not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(skip_dep_check=True, **arguments)
            self._fastapi[None] = instrumentor.uninstrument

    def stop(self) -> None:
        """Uninstruments what was instrumented here."""
        self._is_stopped = True
        self._uninstrument()

    def _uninstrument(self) -> None:
        undo = [*self._fastapi.values()]
        if self._psycopg is not None:
            undo.append(self._psycopg.uninstrument)
        self._fastapi.clear()
        self._psycopg = None
        undo_all(undo)

    @contextmanager
    def suspended(self) -> Generator[None]:
        """Uninstruments all, so that other code may instrument it; takes this back on exit."""
        self._is_suspended = True
        apps = [*self._fastapi]
        self._uninstrument()
        try:
            yield
        finally:
            self._is_suspended = False
            for app in () if self._is_stopped else apps:
                self.load_fastapi(app)
            # The host may have imported psycopg meanwhile.
            if self._waits_for_psycopg and PSYCOPG in sys.modules:
                self._load_psycopg(None)

    def correct(self, name: str, instrumentor: BaseInstrumentor) -> None:
        """Reinstruments, with the right arguments, a library that another distro has instrumented.

        An instrumentation that must not be used is only uninstrumented.
        """
        if not instrumentor.is_instrumented_by_opentelemetry:
            return
        instrumentor.uninstrument()
        if (arguments := self.arguments(name)) is None:
            return
        instrumentor.instrument(skip_dep_check=True, **arguments)
        if name == PSYCOPG:
            self._psycopg = instrumentor
        else:
            self._fastapi[None] = instrumentor.uninstrument


def _middlewares_of(app: Any) -> object:
    """Returns what an instrumentation of `app` changes."""
    return app.build_middleware_stack, list(app.user_middleware)


def module_of(name: str) -> str:
    """Returns the name of the module with the contrib instrumentation of entry point `name`."""
    return f"opentelemetry.instrumentation.{name}"


def contrib_instrumentor(name: str) -> BaseInstrumentor | None:
    """Returns the contrib instrumentor of `name`, None if it or its library is not installed."""
    try:
        return getattr(import_module(module_of(name)), _CLASSES[name])()
    except ImportError:
        return None
