"""The stock instrumentations of FastAPI and psycopg: the arguments they get, and who gives way."""

from __future__ import annotations

import logging
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import NoOpMeterProvider

from otel_coach.guards import guarded
from otel_coach.instrumentors import FASTAPI, PSYCOPG
from otel_coach.request import current_request
from otel_coach.tracing import HandedOver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
    from opentelemetry.trace import Span, TracerProvider

    from otel_coach.recorder import Recorder

_logger = logging.getLogger("otel_coach")

_CLASSES: Final = {FASTAPI: "FastAPIInstrumentor", PSYCOPG: "PsycopgInstrumentor"}


class StockInstrumentations:
    """Arguments by instrumentation: spans only, into `tracer_provider`, metrics nowhere.

    `server_spans` says whether the stock FastAPI instrumentation makes the server spans; where
    it does not, it gives way to the layer around the application.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider,
        recorder: Recorder,
        *,
        server_spans: bool,
        excluded_urls: str,
        metrics_path: str,
    ) -> None:
        self.recorder = recorder
        page = f"{re.escape(metrics_path)}$"
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
        """What the instrumentation of that entry point gets; None if it gives way to us."""
        if name == FASTAPI and FASTAPI not in self._arguments:
            _logger.info(
                "otel-coach: opentelemetry-instrumentation-fastapi gives way to otel-coach's own "
                "server spans; OTEL_COACH_SERVER_SPANS=fastapi turns that round"
            )
            return None
        return self._arguments.get(name, {})

    @guarded
    def _hand_over(self, span: Span, _scope: object) -> None:
        """Let the layer around the application find the server span that it did not make."""
        if (request := current_request.get()) is not None:
            request.server_span = HandedOver(span)

    def correct(self, name: str, instrumentor: BaseInstrumentor) -> None:
        """Give a stock instrumentation that another distro loaded the arguments it should have."""
        if not instrumentor.is_instrumented_by_opentelemetry:
            return
        instrumentor.uninstrument()
        if (arguments := self.arguments(name)) is not None:
            instrumentor.instrument(skip_dep_check=True, **arguments)


def module_of(name: str) -> str:
    """The module of the stock instrumentation of that entry point."""
    return f"opentelemetry.instrumentation.{name}"


def stock_instrumentor(name: str) -> BaseInstrumentor | None:
    """The stock instrumentor of that entry point; None where it or its library is missing."""
    try:
        return getattr(import_module(module_of(name)), _CLASSES[name])()
    except ImportError:
        return None
