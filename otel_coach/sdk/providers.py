"""Builds the meter, tracer and logger providers from the SDK's classes."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider, get_logger_provider, set_logger_provider
from prometheus_client import CollectorRegistry

from otel_coach.core import compatibility
from otel_coach.core.forks import in_each_child
from otel_coach.core.patching import undo_all
from otel_coach.metrics.cardinality import Budgets
from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.metrics.fault_log import FaultLog
from otel_coach.metrics.measurement_queue import MeasurementQueue
from otel_coach.metrics.recorder import COLLECTION_SHARE, MAX_UNEMITTED, Recorder
from otel_coach.sdk.bounded_meters import BoundedMeters
from otel_coach.sdk.components import Components
from otel_coach.sdk.exporters import ExportPipelines, run_at_once
from otel_coach.sdk.forked_meters import MeterReset
from otel_coach.sdk.histogram_batches import Batch, batching
from otel_coach.sdk.meter_provider import CoachMeterProvider
from otel_coach.sdk.prometheus_reader import ExemplarReader
from otel_coach.sdk.redaction import RedactingTracerProvider, Redaction
from otel_coach.sdk.resource import detected_already, process_resource
from otel_coach.settings import effective
from otel_coach.views import build_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor

    from otel_coach.sdk.logs import CoachLoggerProvider
    from otel_coach.settings import EffectiveSettings, Settings

_logger = logging.getLogger("otel_coach")

_TRACES_AND_LOGS_SHARE: Final = 0.6
"""Share of a shutdown's timeout. The rest is for the last push of metrics, which tells how many
spans and log records were lost before."""
_MIN_PUSH: Final = 0.1
"""Seconds; with a timeout of 0, the SDK would stop no reader."""


class Providers:
    """The providers of this process, their readers and their exporters.

    `registry` holds the metric families for the page. If no span processor is configured,
    `tracer_provider` is the global provider, even if the application sets it later.
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
        """Whether this process serves requests, which is known only when its application starts."""
        self._pid = os.getpid()
        self._initial_measurements = 0
        self._counts_parent = False
        """Whether the counts include those of the parent process, and cannot be reset."""
        resource = process_resource()
        with detected_already(resource):
            self._build(effective(settings, {}), resource, span_processors, log_processors, version)
        in_each_child(self._forked)

    def _build(
        self,
        settings: EffectiveSettings,
        resource: Resource,
        span_processors: Sequence[SpanProcessor],
        log_processors: Sequence[LogRecordProcessor],
        version: str,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.page_reader = _page_reader(settings, self.registry)
        queue = MeasurementQueue()
        self._exporters = ExportPipelines(settings, queue)
        self._push_readers = self._exporters.readers(lambda: self.is_idle)
        readers = [*([self.page_reader] if self.page_reader else []), *self._push_readers]
        aggregation = batching(readers)
        self.budgets = Budgets(settings.budgets, settings.pinned, settings.admitted, queue)
        self.bounded_meters = BoundedMeters(FaultLog(queue), self.budgets, settings.admitted)
        self.meter_provider = CoachMeterProvider(
            self.bounded_meters,
            metric_readers=readers,
            resource=resource,
            views=build_views(
                {label for labels in settings.admitted.values() for label in labels},
                settings.budgets,
                aggregation,
            ),
            shutdown_on_exit=False,
        )
        components = Components(settings.components)
        components.configure(self.meter_provider, "meter")
        self.recorder = Recorder(
            self.meter_provider.own_meter(version),
            self.budgets,
            batch=Batch.of if aggregation else None,
            # The SDK's own thread pushes, without a notice before.
            max_unemitted=0.0 if self._push_readers else MAX_UNEMITTED,
        )
        self.meter_provider.before_flush = self.recorder.flush_all
        self._meter_reset = MeterReset(self.meter_provider)
        self._span_processors = [
            *self._exporters.span_processors(self.recorder),
            *span_processors,
        ]
        self._own_tracer_provider = _tracer_provider(
            self._span_processors,
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
        self._log_processors = [*self._exporters.log_processors(), *log_processors]
        self._own_logger_provider = _logger_provider(self._log_processors, resource, settings)
        if self._own_logger_provider is not None:
            self._own_logger_provider.before_flush = self.recorder.flush_all
        components.configure(self._own_logger_provider, "logger")
        self._undo: list[Callable[[], None]] = []

    @property
    def logger_provider(self) -> LoggerProvider:
        """The provider for otel-coach's events, which carry content if capturing is enabled."""
        return self._own_logger_provider or get_logger_provider()

    @property
    def tracer_provider(self) -> trace.TracerProvider:
        """The provider for spans of otel-coach and of contrib instrumentations that it loads."""
        return self._own_tracer_provider or trace.get_tracer_provider()

    def become_global(self) -> None:
        """Makes each provider the global one, unless another one is set."""
        # The API does not tell whether a provider is set; if none is, it returns one of its own.
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
                from otel_coach.sdk.logs import install_handler  # noqa: PLC0415 - only where it is used

                self._undo.append(install_handler(logs))

    @property
    def is_idle(self) -> bool:
        """Whether the process has nothing of its own to push.

        That is so if it neither serves nor has measured, traced or logged anything; and also if its
        counts include its parent's, which would be pushed as its own.
        """
        # In a forked child, a thread may get here before `_forked` was called.
        return os.getpid() != self._pid or self._counts_parent or not self._has_measured

    @property
    def _has_measured(self) -> bool:
        provider, logs = self._own_tracer_provider, self._own_logger_provider
        return (
            self.serves
            or (
                self.recorder.has_measured
                and self.recorder.measurements > self._initial_measurements
            )
            or self.bounded_meters.measurements > 0
            or (provider is not None and provider.has_spans)
            or (logs is not None and logs.has_records)
        )

    def flush(self, timeout: float = 5.0) -> None:
        """Exports what was recorded, all signals at once; waits at most about `timeout` seconds."""
        self.recorder.flush_all(COLLECTION_SHARE * timeout)
        parts = [*self._parts_of_traces_and_logs(), *self._push_readers]
        run_at_once((_flushing(part) for part in parts if part), timeout)

    def shutdown(
        self, timeout: float = 5.0, *, before_the_last_push: Callable[[], object] | None = None
    ) -> None:
        """Flushes and stops all exporters; waits at most about `timeout` seconds.

        Spans and log records that are lost meanwhile are counted in the last push of metrics.
        """
        self.recorder.close(COLLECTION_SHARE * timeout)
        undo_all(self._undo)
        self._undo.clear()
        end = monotonic() + timeout
        share = _TRACES_AND_LOGS_SHARE if self._push_readers else 1.0
        parts = self._parts_of_traces_and_logs()
        run_at_once((self._stopping(part) for part in parts if part), share * timeout)
        self._exporters.losses.give_up()
        self.recorder.flush_all(COLLECTION_SHARE * timeout)
        if before_the_last_push is not None:
            before_the_last_push()
        left = max(_MIN_PUSH, end - monotonic())
        readers = self._push_readers if len(self._push_readers) > 1 else ()
        pushing = [_flushing(reader) for reader in readers]
        run_at_once([*pushing, _stopping_metrics(self.meter_provider)], left)
        self._exporters.undo()

    def _parts_of_traces_and_logs(self) -> list[Any]:
        """Returns what is flushed or stopped concurrently, so that what hangs delays nothing else.

        A provider treats its processors one after the other. So if it has several, the list has
        each of them beside the provider, which then finds them flushed or stopped already.
        """
        several = (each for each in (self._span_processors, self._log_processors) if len(each) > 1)
        providers = (self._own_tracer_provider, self._own_logger_provider)
        return [*chain.from_iterable(several), *filter(None, providers)]

    def _stopping(self, provider: Any) -> Callable[[float], None]:
        def stop(seconds: float) -> None:
            self._exporters.losses.end = monotonic() + seconds
            provider.shutdown()

        return stop

    def _forked(self) -> None:
        """Called in a forked child: what the parent has measured does not count."""
        had_measured = self._has_measured
        self._pid = os.getpid()
        self.serves = False
        self.bounded_meters.measurements = 0
        if self._own_tracer_provider is not None:
            self._own_tracer_provider.forget_spans()
        if self._own_logger_provider is not None:
            self._own_logger_provider.forget_records()
        if not self._meter_reset.reset():
            self._counts_parent = self._counts_parent or had_measured
            return
        if self.page_reader is not None:
            self.page_reader.forget_exemplars()
        for metric in CATALOGUE:
            for values in metric.zeros:
                self.recorder.record(metric, 0, values)
        self._initial_measurements = self.recorder.measurements


def _flushing(part: Any) -> Callable[[float], object]:
    return lambda seconds: part.force_flush(int(1000 * seconds))


def _stopping_metrics(provider: MeterProvider) -> Callable[[float], object]:
    return lambda seconds: provider.shutdown(timeout_millis=1000 * seconds)


def _page_reader(settings: Settings, registry: CollectorRegistry) -> ExemplarReader | None:
    if not settings.serves_metrics:
        return None
    compatibility.holds(compatibility.READERS)  # used anyway; the log says what is lost
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
            "otel-coach: traces are off: %s; correct or unset that variable",
            error,
        )
        return None
    components.configure(provider, "tracer")
    for processor in span_processors:
        provider.add_span_processor(processor)
    return provider


def _logger_provider(
    processors: Sequence[LogRecordProcessor], resource: Resource, settings: EffectiveSettings
) -> CoachLoggerProvider | None:
    if not (processors or settings.exports_logs) or not compatibility.holds(compatibility.LOGS):
        return None
    # Imported late, because importing the SDK's logs runs all resource detectors.
    from otel_coach.sdk.logs import CoachLoggerProvider  # noqa: PLC0415

    provider = CoachLoggerProvider(resource)
    for processor in processors:
        provider.add_log_record_processor(processor)
    return provider


def tracer_provider_is_set() -> bool:
    """Returns whether a global tracer provider is set in this process."""
    return not _is_placeholder(trace.get_tracer_provider())


def knows_placeholders() -> bool:
    """Returns whether the API's own providers, used while none is set, are recognised."""
    meters = import_module("opentelemetry.metrics._internal")
    return _is_placeholder(trace.ProxyTracerProvider()) and _is_placeholder(
        getattr(meters, "_ProxyMeterProvider")()  # noqa: B009 - not public
    )


def has_logs() -> bool:
    """Returns whether the SDK's logs have the methods that are used here."""
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
