"""Creates the parts of otel-coach and connects them, once per process."""

from __future__ import annotations

import atexit
import logging
import math
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import otel_coach
from otel_coach.configuration.environment_variables import vendors_in_place
from otel_coach.configuration.setting import differences
from otel_coach.core.forks import in_each_child
from otel_coach.core.guard import belongs_to_host, guarded, raised_at
from otel_coach.core.patching import undo_all
from otel_coach.core.traps import UNUSED_SETTINGS
from otel_coach.instrumentors import ANTHROPIC, ASGI, DEPENDENCIES, LANGCHAIN, OPENAI
from otel_coach.instrumentors.anthropic import AnthropicInstrumentor
from otel_coach.instrumentors.asgi import AsgiInstrumentor
from otel_coach.instrumentors.contrib import ContribInstrumentations
from otel_coach.instrumentors.dependencies import DependenciesInstrumentor
from otel_coach.instrumentors.langchain import LangChainInstrumentor
from otel_coach.instrumentors.openai import OpenAIInstrumentor
from otel_coach.instrumentors.provider_headers import ProviderHeaders
from otel_coach.metrics.labels import DEFAULT_SIZES
from otel_coach.pricing.price_list import PriceList
from otel_coach.prometheus.families import LocalFamilies
from otel_coach.prometheus.http.shared_renders import Renders
from otel_coach.prometheus.local_metrics import LocalMetrics
from otel_coach.prometheus.page_renderer import PageRenderer
from otel_coach.sdk.exporters import run_at_once
from otel_coach.sdk.providers import Providers, tracer_provider_is_set
from otel_coach.settings import Settings, effective
from otel_coach.setup.arguments import ARGUMENTS
from otel_coach.setup.declarative_configuration import configured
from otel_coach.setup.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from opentelemetry.sdk.trace import SpanProcessor

    from otel_coach.instrumentors.base import Instrumentor
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.recorder import Recorder
    from otel_coach.settings import EffectiveSettings

_logger = logging.getLogger("otel_coach")

INSTRUMENTORS: Final[Mapping[str, type[Instrumentor]]] = {
    ASGI: AsgiInstrumentor,
    LANGCHAIN: LangChainInstrumentor,
    OPENAI: OpenAIInstrumentor,
    ANTHROPIC: AnthropicInstrumentor,
    DEPENDENCIES: DependenciesInstrumentor,
}
"""otel-coach's instrumentors, by entry point."""

_MAX_EXIT: Final = 3.0
"""Seconds that the export of what is left may delay the end of the process."""
_MAX_EXIT_AFTER_LIFESPAN: Final = 0.5
"""The same, if all was just exported at the end of an application's lifespan."""
_RECENT: Final = 2.0
"""Seconds. A server process that ends does so within this time after its application's lifespan."""


class Installation:
    """Everything of otel-coach that runs in this process.

    Args:
        settings: the settings in force.
        span_processors: further processors of the tracer provider.
        asked: the settings as they were asked for, before a configuration file or a vendor's distro
            changed them; None if no later ones are compared with them.
        vendors: the vendors' distro and configurator that have set the global tracer provider.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        span_processors: Sequence[SpanProcessor] = (),
        asked: EffectiveSettings | None = None,
        vendors: Sequence[str] = (),
    ) -> None:
        self._asked = asked
        self.vendors = vendors
        self._unused = set[str]()
        self.settings = settings = effective(settings, {})
        settings.log_problems()
        self.providers = Providers(settings, span_processors, version=otel_coach.__version__)
        self.prices = PriceList.from_file(settings.prices_file, settings.gateways)
        self.reported = set[tuple[str, str]]()
        self.local_metrics = _local_metrics(self.providers, settings)
        self.page = PageRenderer(
            self.local_metrics, dict(sorted(settings.budgets.items() - DEFAULT_SIZES.items()))
        )
        self.renders = Renders(self.page, self.recorder.fault)
        self.contrib = ContribInstrumentations(
            self.providers.tracer_provider,
            self.recorder,
            server_spans=settings.server_spans == "fastapi",
            excluded_urls=settings.excluded_urls,
            metrics_path=settings.metrics_path,
            disables=settings.disables,
        )
        self._headers = ProviderHeaders(
            self.recorder,
            withholds=not settings.propagates_to_providers,
            trusts=settings.trust.test,
        )
        self.serving = Serving(
            *(self.local_metrics, self.page, self.renders, self.recorder, settings),
            vendors=vendors,
        )
        self.providers.meter_provider.before_shutdown.append(self.serving.refresh)
        self._instrumentors: dict[str, Instrumentor] = {}
        self._postponed: list[tuple[str, object]] = []
        """What was asked for while a `measuring()` block of `otel_coach.testing`, which has an
        installation of its own, had the instrumentors."""
        self._is_over = False
        """Whether `uninstrument` was called."""
        self._flushed_at = -math.inf
        """When an application's lifespan last ended and its data were exported, by
        `time.perf_counter`."""
        self._forked_at = 0.0
        """When this process was forked, by `time.perf_counter`; the parent ends earlier runs."""
        in_each_child(self._forked)

    def _forked(self) -> None:
        self._forked_at = perf_counter()
        self._flushed_at = -math.inf

    @property
    def recorder(self) -> Recorder:
        """The recorder of this process, which also counts otel-coach's own errors."""
        return self.providers.recorder

    def withhold_headers(self) -> None:
        """Keeps trace context and baggage from providers; ignores those of untrusted callers."""
        settings = self.settings
        if not settings.propagates_to_providers or not settings.trust.everybody:
            self._headers.start()

    @guarded
    def application_stopped(self, app: object) -> None:
        """Ends the runs of `app` that are still open, and exports, at the end of its lifespan.

        If SIGTERM stops uvicorn, nothing runs after the lifespan, not even `exit`.
        """
        self._end_runs(lambda run: run.application is app)
        # A callback of the application's may hang in a measurement: nothing waits for it.
        run_at_once([self._refresh], _MAX_EXIT)
        self.providers.flush()
        self._flushed_at = perf_counter()
        run_at_once([self._refresh], _MAX_EXIT)  # with what the flush could not send

    @guarded
    def exit(self) -> None:
        """Stops the exporters at the end of the process, without waiting long for a dead back end.

        After a lifespan, there is little left to export, and its end may have waited for the back
        end already.
        """
        self._end_runs(lambda run: run.started >= self._forked_at)
        if self.providers.is_idle:
            self.serving.end()
            return  # a supervisor or a helper process of the host: it has nothing to export
        is_flushed = perf_counter() - self._flushed_at < _RECENT
        seconds = _MAX_EXIT_AFTER_LIFESPAN if is_flushed else _MAX_EXIT
        run_at_once([self._refresh, self._stop], seconds)

    def _refresh(self, _seconds: float) -> None:
        self.serving.refresh()

    def _stop(self, seconds: float) -> None:
        self.providers.shutdown(seconds, before_the_last_push=self.serving.end)

    def instrument(self, name: str, app: object = None) -> None:
        """Starts the instrumentor of the entry point `name`; if it is started, only adds `app`.

        `app` is the application that the ASGI instrumentor instruments; None means all of them.
        """
        if self.settings.disables(name):
            return
        instrumentor = INSTRUMENTORS[name]()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.watch_also(app)
            if name not in self._instrumentors:
                self._postponed.append((name, app))
            return
        apps = None if app is None else WeakSet([app])
        instrumentor.instrument(skip_dep_check=True, apps=apps, **ARGUMENTS[name](self))
        self._instrumentors[name] = instrumentor
        self.withhold_headers()

    def compare(self, later: Settings) -> None:
        """Logs once in which fields the settings of a `later` start differ: they have no effect."""
        differ = None if self._asked is None else differences(self._asked, effective(later, {}))
        if differ is not None and differ["fields"] not in self._unused:
            self._unused.add(differ["fields"])
            _logger.warning("otel-coach: %s", UNUSED_SETTINGS.found(**differ))

    def uninstrument(self) -> None:
        """Removes everything from the application's request path, and flushes."""
        self._is_over = True
        instrumentors = [*reversed(self._instrumentors.values())]
        self._instrumentors.clear()
        undo_all(
            [
                *(partial(instrumentor.end_runs, _any_run) for instrumentor in instrumentors),
                *(instrumentor.uninstrument for instrumentor in instrumentors),
                *(part.stop for part in (self.contrib, self._headers, self.serving)),
                self.providers.shutdown,
            ]
        )

    @contextmanager
    def suspended(self) -> Generator[None]:
        """Takes the instrumentors off the application's request path; puts them back on exit."""
        with self.contrib.suspended():
            suspended, self._instrumentors = self._instrumentors, {}
            apps = {name: instrumentor.apps for name, instrumentor in suspended.items()}
            undo_all(instrumentor.uninstrument for instrumentor in suspended.values())
            self._headers.stop()
            try:
                yield
            finally:
                if not self._is_over:  # the application may have ended it meanwhile
                    for name, instrumentor in suspended.items():
                        arguments = ARGUMENTS[name](self)
                        instrumentor.instrument(skip_dep_check=True, apps=apps[name], **arguments)
                    self._instrumentors = suspended
                    self.withhold_headers()

    def start_postponed(self) -> None:
        """Starts what could not be started while a `measuring()` block had the instrumentors."""
        postponed, self._postponed = self._postponed, []
        for name, app in () if self._is_over else postponed:
            self.instrument(name, app)

    def _end_runs(self, which: Callable[[Run], bool]) -> None:
        for instrumentor in self._instrumentors.values():
            instrumentor.end_runs(which)

    @guarded
    def application_started(self) -> None:
        """Starts what only a serving process needs, at the start of the application's lifespan."""
        self.providers.serves = True
        self.withhold_headers()  # again: the application may have set another propagator
        self.serving.begin()
        for instrumentor in self._instrumentors.values():
            instrumentor.start(self.serving.once_for_all)


def _any_run(_run: Run) -> bool:
    return True


def _local_metrics(providers: Providers, settings: EffectiveSettings) -> LocalMetrics:
    reader, recorder = providers.page_reader, providers.recorder
    families = LocalFamilies(
        providers.registry,
        reader,
        recorder.measured,
        providers.bounded_meters,
        multiprocess=settings.prometheus_multiprocess,
    )
    return LocalMetrics(families, recorder)


_installed: Installation | None = None
_stays_off = False
"""Whether OTEL_CONFIG_FILE disables otel-coach, or it cannot start: either is logged once."""
_installing = threading.RLock()


def install(settings: Settings | None = None) -> Installation | None:
    """Returns the installation of this process; the first call creates it.

    Returns None if otel-coach is disabled, or if it cannot start, which is logged once.
    """
    global _installed, _stays_off  # noqa: PLW0603 - the only state that entry points share
    with _installing:
        if _installed is not None and settings is not None:
            _installed.compare(settings)
        if _installed is None and not _stays_off:
            settings = asked = effective(settings or Settings.from_env())
            if settings.enabled and settings.config_file:
                settings = configured(settings, is_done=tracer_provider_is_set())
                _stays_off = not settings.enabled
            if not settings.enabled:
                return None
            if settings.quiet:
                _logger.addFilter(_is_not_at_info)
            vendors = vendors_in_place() if tracer_provider_is_set() else ()
            if vendors:  # their exporters get all spans
                settings = replace(settings, trace_exporters=())
            try:
                _installed = Installation(settings, asked=asked, vendors=vendors)
            except Exception as error:  # the service starts without otel-coach
                if belongs_to_host(error):
                    raise
                _stays_off = True
                _logger.removeFilter(_is_not_at_info)
                # The exception's message is not logged: it may contain an address with a password.
                _logger.error(  # noqa: TRY400 - one line, with what to do next
                    "otel-coach: it cannot start (%s in %s) and measures nothing; `otel-coach "
                    "doctor` may tell more",
                    type(error).__name__,
                    raised_at(error),
                )
                return None
            _installed.providers.become_global()
            atexit.register(_at_exit)
        return _installed


def _is_not_at_info(record: logging.LogRecord) -> bool:
    """Whether `record` is shown with OTEL_COACH_QUIET."""
    return record.levelno != logging.INFO


def installed() -> Installation | None:
    """Returns the installation of this process, or None."""
    return _installed


def uninstall() -> None:
    """Undoes `install` and what has been instrumented since; does nothing if not installed."""
    global _installed
    with _installing:
        installed, _installed = _installed, None
        if installed is not None:
            _logger.removeFilter(_is_not_at_info)
            atexit.unregister(_at_exit)
            installed.uninstrument()


def _at_exit() -> None:
    if _installed is not None:
        _installed.exit()
