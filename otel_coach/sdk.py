"""Builds the meter and tracer providers, by the SDK's public API."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider, get_logger_provider, set_logger_provider
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from otel_coach import compatibility
from otel_coach.batches import Batch, batching
from otel_coach.budgets import Budgets
from otel_coach.catalogue import CATALOGUE
from otel_coach.components import Components
from otel_coach.exporting import Exporters, at_once
from otel_coach.exposition.reader import ExemplarReader
from otel_coach.foreign import ForeignMeters
from otel_coach.forked import Beginning
from otel_coach.forks import in_each_child
from otel_coach.patches import undone
from otel_coach.recorder import Recorder
from otel_coach.redaction import RedactingTracerProvider, Redaction
from otel_coach.resource import detected_already, process_resource, without_secrets
from otel_coach.views import build_views
from otel_coach.vocabulary import LABEL_SET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.metrics import Meter
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.util.types import Attributes

    from otel_coach.logs import CoachLoggerProvider
    from otel_coach.settings import Settings

_logger = logging.getLogger("otel_coach")

GIVING_WAY: Final = frozenset(
    {
        "fastapi",
        "opentelemetry.instrumentation.asgi",
        "opentelemetry.instrumentation.fastapi",
        "opentelemetry.instrumentation.starlette",
    }
)
"""Scopes that would measure the HTTP server a second time."""
_FOR_TRACES_AND_LOGS: Final = 0.6
"""Of the time to stop. What they lost in it is in the last push of metrics, which has the rest."""
_SHORTEST_PUSH: Final = 0.1
"""Seconds; with none at all, the SDK stops no reader."""


class CoachMeterProvider(MeterProvider):
    """A MeterProvider under which there is one HTTP family: ours."""

    foreign: ForeignMeters | None = None
    """What bounds meters that are not ours."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.before_shutdown: list[Callable[[], object]] = []
        """Called once, while the figures can still be read; the application may shut us down."""
        self._is_shut_down = False

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """As the SDK's, once; a further call does nothing."""
        if self._is_shut_down:
            return
        self._is_shut_down = True
        for call in self.before_shutdown:
            call()
        super().shutdown(timeout_millis)

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Meter:
        """The SDK's meter, bounded; one that does nothing for the scopes that give way."""
        if name in GIVING_WAY:
            _logger.info("otel-coach: the metrics of %s give way to otel-coach's own", name)
            return metrics.NoOpMeterProvider().get_meter(name, version, schema_url, attributes)
        meter = super().get_meter(name, version, schema_url, attributes)
        if self.foreign is None:
            return meter
        return self.foreign.bounded(meter) or metrics.NoOpMeter(name)

    def _update_resource(self, resource: Resource) -> None:
        # The SDK detects some of it again after a fork.
        super()._update_resource(without_secrets(resource))


class Providers:
    """The providers of this process and what is read from them.

    `registry` holds our families for the page. `tracer_provider` is the global one, whoever
    sets it and when, where no exporter of ours is configured.
    """

    def __init__(
        self,
        settings: Settings,
        span_processors: Sequence[SpanProcessor] = (),
        log_processors: Sequence[LogRecordProcessor] = (),
        *,
        version: str = "",
    ) -> None:
        self.serves = False
        """Whether this process serves, of which a supervisor does not know beforehand."""
        self._pid = os.getpid()
        self._facts_of_the_start = 0
        self._has_figures_of_another = False
        """Whether this process was forked from one that measured, and cannot tell them apart."""
        resource = process_resource()
        with detected_already(resource):
            self._build(settings, resource, span_processors, log_processors, version)
        in_each_child(self._forked)

    def _build(
        self,
        settings: Settings,
        resource: Resource,
        span_processors: Sequence[SpanProcessor],
        log_processors: Sequence[LogRecordProcessor],
        version: str,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.page_reader = _page_reader(settings, self.registry)
        self._exporters = Exporters(settings)
        self._push_readers = self._exporters.readers()
        for reader in self._push_readers:
            reader.is_idle = lambda: self.is_idle
        readers = [*([self.page_reader] if self.page_reader else []), *self._push_readers]
        aggregation = batching(readers)
        self.meter_provider = CoachMeterProvider(
            metric_readers=readers,
            resource=resource,
            views=build_views(
                {label for labels in settings.admitted.values() for label in labels},
                settings.budgets[LABEL_SET],
                aggregation,
            ),
            shutdown_on_exit=False,
        )
        components = Components(settings.components)
        components.configure(self.meter_provider, "meter")
        self.budgets = Budgets(settings.budgets, settings.pinned, settings.admitted)
        self.recorder = Recorder(
            self.meter_provider.get_meter("otel_coach", version),
            self.budgets,
            batch=Batch.of if aggregation else None,
        )
        self._exporters.losses.recorder = self.recorder
        self._beginning = Beginning(self.meter_provider)
        self.foreign = ForeignMeters(self.recorder, self.budgets, settings.admitted)
        self.meter_provider.foreign = self.foreign
        self._own_tracer_provider = _tracer_provider(
            [*self._exporters.span_processors(self.recorder), *span_processors],
            components,
            redaction=Redaction(
                settings.span_attributes,
                captures=settings.captures_on_spans,
                limit=settings.content_limit,
                has_redactor=settings.content_redactor is not None,
            ),
            recorder=self.recorder,
            resource=resource,
        )
        self._settings = settings
        self._own_logger_provider = _logger_provider(
            [*self._exporters.log_processors(), *log_processors], resource, settings
        )
        components.configure(self._own_logger_provider, "logger")
        self._undo: list[Callable[[], None]] = []

    @property
    def logger_provider(self) -> LoggerProvider:
        """Where our events go: captured content, for those who ask for it."""
        return self._own_logger_provider or get_logger_provider()

    @property
    def tracer_provider(self) -> trace.TracerProvider:
        """Where our spans and those of the stock instrumentations that we load go."""
        return self._own_tracer_provider or trace.get_tracer_provider()

    def become_global(self) -> None:
        """Serve the whole process where nobody else does yet."""
        # The API has no public "is it set": its placeholders live in its own modules.
        if not compatibility.holds(compatibility.PLACEHOLDERS):
            return
        if _is_placeholder(metrics.get_meter_provider()):
            metrics.set_meter_provider(self.meter_provider)
        if self._own_tracer_provider and _is_placeholder(trace.get_tracer_provider()):
            trace.set_tracer_provider(self._own_tracer_provider)
        logs = self._own_logger_provider
        if logs and self._settings.exports_logs and _is_placeholder(get_logger_provider()):
            set_logger_provider(logs)
            if self._settings.handles_logging:
                from otel_coach.logs import install_handler  # noqa: PLC0415 - only where asked for

                self._undo.append(install_handler(logs))

    @property
    def is_idle(self) -> bool:
        """Whether nothing was measured, traced or logged in a process that does not serve."""
        # In a child that was just forked, a thread may ask before `_forked` was called.
        return os.getpid() != self._pid or self._has_figures_of_another or not self._has_measured

    @property
    def _has_measured(self) -> bool:
        provider, logs = self._own_tracer_provider, self._own_logger_provider
        return (
            self.serves
            or (self.recorder.has_measured and self.recorder.facts > self._facts_of_the_start)
            or self.foreign.has_measured
            or (provider is not None and provider.has_spans)
            or (logs is not None and logs.has_records)
        )

    def flush(self, timeout: float = 5.0) -> None:
        """Export what is ended; waits at most about `timeout` seconds, for all signals at once."""
        self.recorder.settle_all()
        parts = (self._own_tracer_provider, self._own_logger_provider, *self._push_readers)
        at_once((_flushing(part) for part in parts if part), timeout)

    def shutdown(
        self, timeout: float = 5.0, *, before_the_last_push: Callable[[], object] | None = None
    ) -> None:
        """Flush and stop all exporters; waits at most about `timeout` seconds.

        What spans and logs lost in that is counted, and in the last push of the metrics.
        """
        self.recorder.close()
        undone(self._undo)
        self._undo.clear()
        end = monotonic() + timeout
        share = _FOR_TRACES_AND_LOGS if self._push_readers else 1.0
        parts = (self._own_tracer_provider, self._own_logger_provider)
        at_once((self._stopping(part) for part in parts if part), share * timeout)
        self._exporters.losses.give_up()
        self.recorder.settle_all()
        if before_the_last_push is not None:
            before_the_last_push()
        left = max(_SHORTEST_PUSH, end - monotonic())
        at_once([_stopping_metrics(self.meter_provider)], left)
        self._exporters.undo()

    def _stopping(self, provider: Any) -> Callable[[float], None]:
        def stop(seconds: float) -> None:
            self._exporters.losses.end = monotonic() + seconds
            provider.shutdown()

        return stop

    def _forked(self) -> None:
        """In a forked child: nothing was measured, whatever the parent has."""
        had_measured = self._has_measured
        self._pid = os.getpid()
        self.serves = self.foreign.has_measured = False
        if self._own_tracer_provider is not None:
            self._own_tracer_provider.forget_spans()
        if self._own_logger_provider is not None:
            self._own_logger_provider.forget_records()
        if not self._beginning.anew():
            self._has_figures_of_another = self._has_figures_of_another or had_measured
            return
        if self.page_reader is not None:
            self.page_reader.forget_exemplars()
        for metric in CATALOGUE:
            for values in metric.zeros:
                self.recorder.record(metric, 0, values)
        self._facts_of_the_start = self.recorder.facts


def _flushing(part: Any) -> Callable[[float], object]:
    return lambda seconds: part.force_flush(int(1000 * seconds))


def _stopping_metrics(provider: MeterProvider) -> Callable[[float], object]:
    return lambda seconds: provider.shutdown(timeout_millis=1000 * seconds)


def _page_reader(settings: Settings, registry: CollectorRegistry) -> ExemplarReader | None:
    if not settings.serves_metrics:
        return None
    compatibility.holds(compatibility.READERS)  # there is no other way: a line says what is lost
    return ExemplarReader(registry, disable_target_info=not settings.target_info)


def _tracer_provider(
    span_processors: Sequence[SpanProcessor], components: Components, **arguments: Any
) -> RedactingTracerProvider | None:
    if not span_processors:
        return None
    try:
        provider = RedactingTracerProvider(
            **arguments,
            sampler=components.sampler(),
            id_generator=components.id_generator(),
            shutdown_on_exit=False,
        )
    except ValueError as error:
        _logger.error(  # noqa: TRY400 - one line with the cure
            "otel-coach: traces are off: %s; correct the OTEL_SPAN_* or OTEL_TRACES_* variable",
            error,
        )
        return None
    components.configure(provider, "tracer")
    for processor in span_processors:
        provider.add_span_processor(processor)
    return provider


def _logger_provider(
    processors: Sequence[LogRecordProcessor], resource: Resource, settings: Settings
) -> CoachLoggerProvider | None:
    if not (processors or settings.exports_logs) or not compatibility.holds(compatibility.LOGS):
        return None
    # Late: the SDK's logs run all resource detectors as they are imported.
    from otel_coach.logs import CoachLoggerProvider  # noqa: PLC0415

    provider = CoachLoggerProvider(resource)
    for processor in processors:
        provider.add_log_record_processor(processor)
    return provider


def providers_are_set() -> bool:
    """Whether somebody has set a global provider in this process."""
    found = (metrics.get_meter_provider(), trace.get_tracer_provider(), get_logger_provider())
    return not all(map(_is_placeholder, found))


def knows_placeholders() -> bool:
    """Whether the API's own providers are known as such: those of a process where none is set."""
    meters = import_module("opentelemetry.metrics._internal")
    return _is_placeholder(trace.ProxyTracerProvider()) and _is_placeholder(
        getattr(meters, "_ProxyMeterProvider")()  # noqa: B009 - not public
    )


def has_logs() -> bool:
    """Whether the modules of the SDK's logs have what is used of them."""
    from opentelemetry.sdk import _logs  # noqa: PLC0415 - see above

    return callable(_logs.LoggerProvider.add_log_record_processor) and callable(
        _logs.LogRecordProcessor.on_emit
    )


def _is_placeholder(provider: object) -> bool:
    return type(provider).__module__.split(".")[:2] in (
        ["opentelemetry", "_logs"],
        ["opentelemetry", "metrics"],
        ["opentelemetry", "trace"],
    )
