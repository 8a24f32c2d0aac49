"""Puts the rooms together, once per process."""

from __future__ import annotations

import atexit
import logging
import threading
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import wrapt

import otel_coach
from otel_coach.declarative import configured
from otel_coach.environment_variables import vendors_in_place
from otel_coach.exporting import at_once
from otel_coach.exposition.endpoint import MetricsEndpoint
from otel_coach.exposition.families import LocalFamilies
from otel_coach.exposition.page import Page
from otel_coach.exposition.renders import Renders
from otel_coach.forks import in_each_child
from otel_coach.guards import guarded, is_the_hosts, raised_at
from otel_coach.instrumentors import ASGI, DEPENDENCIES, LANGCHAIN, PSYCOPG
from otel_coach.instrumentors.asgi import AsgiInstrumentor
from otel_coach.instrumentors.dependencies import DependenciesInstrumentor
from otel_coach.instrumentors.langchain import LangChainInstrumentor
from otel_coach.instrumentors.provider_headers import ProviderHeaders
from otel_coach.instrumentors.stock import StockInstrumentations, stock_instrumentor
from otel_coach.pricing import PriceList
from otel_coach.sdk import Providers, providers_are_set
from otel_coach.serving import Serving
from otel_coach.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
    from opentelemetry.sdk.trace import SpanProcessor

    from otel_coach.instrumentors.langchain.runs import Run
    from otel_coach.recorder import Recorder

_logger = logging.getLogger("otel_coach")

INSTRUMENTORS: Final[Mapping[str, type[BaseInstrumentor]]] = {
    ASGI: AsgiInstrumentor,
    LANGCHAIN: LangChainInstrumentor,
    DEPENDENCIES: DependenciesInstrumentor,
}
"""Our instrumentors by entry point."""

_LONGEST_EXIT: Final = 3.0
_SHORTEST_EXIT: Final = 0.5


class Installation:
    """Everything that runs in this process, and its undoing."""

    def __init__(
        self, settings: Settings, *, span_processors: Sequence[SpanProcessor] = ()
    ) -> None:
        settings.log_problems()
        self.settings = settings
        self.providers = Providers(settings, span_processors, version=otel_coach.__version__)
        self.page = _page(self.providers, settings)
        self.renders = Renders(self.page, self.recorder.fault)
        self.stock = StockInstrumentations(
            self.providers.tracer_provider,
            self.recorder,
            server_spans=settings.server_spans == "fastapi",
            excluded_urls=settings.excluded_urls,
            metrics_path=settings.metrics_path,
        )
        self._headers = ProviderHeaders(
            self.recorder,
            withholds=not settings.propagates_to_providers,
            trusts=settings.trust_incoming.test,
        )
        self.serving = Serving(self.page, self.renders, self.recorder, settings)
        self.providers.meter_provider.before_shutdown.append(self.serving.refresh)
        self._instrumented: list[BaseInstrumentor] = []
        self._uninstrumented = False
        self._flushed = False
        self._forked_at = 0.0
        """By `time.perf_counter`; runs from before are the parent's to end."""
        in_each_child(self._forked)

    def _forked(self) -> None:
        self._forked_at = perf_counter()
        self._flushed = False

    @property
    def recorder(self) -> Recorder:
        """Where faults go."""
        return self.providers.recorder

    def withhold_headers(self) -> None:
        """Stop trace context and baggage on their way to providers and from the untrusted."""
        settings = self.settings
        if not settings.propagates_to_providers or not settings.trust_incoming.everybody:
            self._headers.start()

    @guarded
    def application_stopped(self, app: object) -> None:
        """At the end of the application's lifespan: end what is left of it, and export.

        A server that was stopped by a signal lets nothing run after this.
        """
        self._flushed = True
        self._end_runs(lambda run: run.application is app)
        self.serving.refresh()
        self.providers.flush()
        self.serving.refresh()  # with what could not be sent

    @guarded
    def exit(self) -> None:
        """At the end of the process: stop the exporters, without waiting for a dead back end.

        After a lifespan there is little left to send, and its end may have waited already.
        """
        self._end_runs(lambda run: run.started >= self._forked_at)
        if self.providers.is_idle:
            self.serving.end()
            return  # a supervisor, or a helper process of the host's, has nothing to send
        self.serving.refresh()
        seconds = _SHORTEST_EXIT if self._flushed else _LONGEST_EXIT
        at_once([self._stop], seconds)

    def _stop(self, seconds: float) -> None:
        self.providers.shutdown(seconds, before_the_last_push=self.serving.end)

    def instrument(self, name: str, app: object = None) -> None:
        """Start the instrumentor of that entry point; once, however often it is asked for.

        `app` is for the ASGI instrumentor: the application to watch, None for all.
        """
        if self.settings.disables(name):
            return
        instrumentor = INSTRUMENTORS[name]()
        if instrumentor.is_instrumented_by_opentelemetry:
            if isinstance(instrumentor, AsgiInstrumentor):
                instrumentor.watch_also(app)
            return
        arguments = self._arguments(name)
        if app is not None and name == ASGI:
            arguments["app"] = app
        instrumentor.instrument(skip_dep_check=True, **arguments)
        self._instrumented.append(instrumentor)
        self.withhold_headers()

    def instrument_psycopg(self) -> None:
        """Load the stock psycopg instrumentation as soon as the host imports psycopg."""
        if not self.settings.disables(PSYCOPG):
            wrapt.register_post_import_hook(self._load_psycopg, PSYCOPG)

    @guarded  # what is raised here would break the host's own import
    def _load_psycopg(self, _module: object) -> None:
        if self._uninstrumented:  # an import hook cannot be taken back
            return
        instrumentor = stock_instrumentor(PSYCOPG)
        if instrumentor is None or instrumentor.is_instrumented_by_opentelemetry:
            return
        instrumentor.instrument(skip_dep_check=True, **(self.stock.arguments(PSYCOPG) or {}))
        self._instrumented.append(instrumentor)

    def uninstrument(self) -> None:
        """Take everything off the application's path, and flush."""
        self._uninstrumented = True
        for instrumentor in reversed(self._instrumented):
            instrumentor.uninstrument()
        self._instrumented.clear()
        self._headers.stop()
        self.serving.stop()
        self.providers.shutdown()

    def _end_runs(self, which: Callable[[Run], bool]) -> None:
        for instrumentor in self._instrumented:
            if isinstance(instrumentor, LangChainInstrumentor):
                instrumentor.end_runs(which)

    def _arguments(self, name: str) -> dict[str, Any]:
        recorder, tracers = self.providers.recorder, self.providers.tracer_provider
        settings = self.settings
        if name == DEPENDENCIES:
            return {
                "recorder": recorder,
                "addresses": settings.dependencies,
                "interval": settings.dependency_interval,
                "timeout": settings.dependency_timeout,
            }
        tracer = tracers.get_tracer("otel_coach", otel_coach.__version__)
        if name == LANGCHAIN:
            prices = PriceList.from_file(settings.prices_file)
            content = {
                "on_spans": settings.captures_on_spans,
                "on_events": settings.captures_on_events,
                "limit": settings.content_limit,
                "redactor": settings.content_redactor,
            }
            return {
                "recorder": recorder,
                "tracer": tracer,
                "prices": prices,
                "content": content,
                "events": self.providers.logger_provider.get_logger(
                    "otel_coach", otel_coach.__version__
                ),
            }
        serves_inside = settings.serves_metrics and settings.metrics_port is None
        return {
            "recorder": recorder,
            "tracer": tracer if settings.server_spans == "otel_coach" else None,
            "credential_headers": settings.credential_headers,
            "excluded_urls": settings.excluded_urls,
            "page": MetricsEndpoint(
                self.renders, settings.metrics_path, recorder, settings.metrics_token
            )
            if serves_inside
            else None,
            "trusts": settings.trust_incoming.test,
            "on_start": self._start,
            "on_stop": self.application_stopped,
        }

    @guarded
    def _start(self) -> None:
        self.providers.serves = True
        self.withhold_headers()  # also before a propagator that the application has set meanwhile
        self.serving.begin()
        for instrumentor in self._instrumented:
            if isinstance(instrumentor, LangChainInstrumentor):
                instrumentor.start()
            elif isinstance(instrumentor, DependenciesInstrumentor):
                self.serving.once_for_all("probes", instrumentor.start)


def _page(providers: Providers, settings: Settings) -> Page:
    reader, recorder = providers.page_reader, providers.recorder
    local = LocalFamilies(
        providers.registry,
        reader,
        recorder.measured,
        lambda: providers.foreign.has_measured or providers.foreign.is_asked,
        multiprocess=settings.prometheus_multiprocess,
    )
    return Page(local, recorder)


_installed: Installation | None = None
_cannot_start = False
_installing = threading.RLock()


def install(settings: Settings | None = None) -> Installation | None:
    """The installation of this process, made at the first call.

    None where it is disabled, or cannot start, which is said once.
    """
    global _installed, _cannot_start  # noqa: PLW0603 - entry points have no other way to meet
    with _installing:
        if _installed is None and not _cannot_start:
            settings = settings or Settings.from_env()
            if settings.enabled and settings.config_file:
                settings = configured(settings, is_done=providers_are_set())
            if not settings.enabled:
                return None
            if vendors_in_place():  # whose exporters are to get all spans
                settings = replace(settings, trace_exporters=())
            try:
                _installed = Installation(settings)
            except Exception as error:  # the service starts without us
                if is_the_hosts(error):
                    raise
                _cannot_start = True
                # Without its message, which may repeat an address with a password.
                _logger.error(  # noqa: TRY400 - one line; the next says what to do
                    "otel-coach: it cannot start (%s in %s) and measures nothing; `otel-coach "
                    "doctor` may tell more",
                    type(error).__name__,
                    raised_at(error),
                )
                return None
            _installed.providers.become_global()
            atexit.register(_at_exit)
        return _installed


def uninstall() -> None:
    """Undo `install` and all that was instrumented since. Does nothing where nothing was."""
    global _installed  # noqa: PLW0603
    with _installing:
        if _installed is not None:
            _installed.uninstrument()
            _installed = None
            atexit.unregister(_at_exit)


def _at_exit() -> None:
    if _installed is not None:
        _installed.exit()
