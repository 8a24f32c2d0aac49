"""Builds the meter and tracer providers, by the SDK's public API."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider, get_logger_provider
from opentelemetry.sdk._logs import LoggerProvider as SdkLoggerProvider
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from otel_coach.batches import Batch, batching
from otel_coach.budgets import Budgets
from otel_coach.exporting import Exporters, at_once
from otel_coach.exposition.reader import ExemplarReader
from otel_coach.foreign import ForeignMeters
from otel_coach.recorder import Recorder
from otel_coach.redaction import RedactingTracerProvider, Redaction
from otel_coach.resource import process_resource
from otel_coach.views import build_views
from otel_coach.vocabulary import LABEL_SET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.util.types import Attributes

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
        resource = process_resource()
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
        self.budgets = Budgets(settings.budgets, settings.pinned, settings.admitted)
        self.recorder = Recorder(
            self.meter_provider.get_meter("otel_coach", version),
            self.budgets,
            batch=Batch.of if aggregation else None,
        )
        self.foreign = ForeignMeters(self.recorder, self.budgets, settings.admitted)
        self.meter_provider.foreign = self.foreign
        self._own_tracer_provider = _tracer_provider(
            [*self._exporters.span_processors(self.recorder), *span_processors],
            redaction=Redaction(settings.span_attributes),
            recorder=self.recorder,
            resource=resource,
        )
        self._own_logger_provider = _logger_provider(
            [*self._exporters.log_processors(), *log_processors], resource
        )

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
        if _is_placeholder(metrics.get_meter_provider()):
            metrics.set_meter_provider(self.meter_provider)
        if self._own_tracer_provider and _is_placeholder(trace.get_tracer_provider()):
            trace.set_tracer_provider(self._own_tracer_provider)

    @property
    def is_idle(self) -> bool:
        """Whether nothing was measured and no span was made in a process that does not serve."""
        provider = self._own_tracer_provider
        return not (
            self.serves
            or self.recorder.has_measured
            or self.foreign.has_measured
            or (provider is not None and provider.has_spans)
        )

    def flush(self, timeout: float = 5.0) -> None:
        """Export what is ended; waits at most about `timeout` seconds, for all signals at once."""
        self.recorder.settle_all()
        milliseconds = int(timeout * 1000)
        parts = (self._own_tracer_provider, self._own_logger_provider, *self._push_readers)
        at_once(
            (functools.partial(part.force_flush, milliseconds) for part in parts if part), timeout
        )

    def shutdown(self, timeout: float = 5.0) -> None:
        """Flush and stop all exporters; waits at most about `timeout` seconds."""
        self.recorder.close()
        parts = (self._own_tracer_provider, self._own_logger_provider, self.meter_provider)
        at_once((part.shutdown for part in parts if part), timeout)
        self._exporters.undo()


def _page_reader(settings: Settings, registry: CollectorRegistry) -> ExemplarReader | None:
    if not settings.serves_metrics:
        return None
    return ExemplarReader(registry, disable_target_info=not settings.target_info)


def _tracer_provider(
    span_processors: Sequence[SpanProcessor], **arguments: Any
) -> RedactingTracerProvider | None:
    if not span_processors:
        return None
    try:
        provider = RedactingTracerProvider(**arguments, shutdown_on_exit=False)
    except ValueError as error:
        _logger.error(  # noqa: TRY400 - one line with the cure
            "otel-coach: traces are off: %s; correct the OTEL_SPAN_* or OTEL_TRACES_* variable",
            error,
        )
        return None
    for processor in span_processors:
        provider.add_span_processor(processor)
    return provider


def _logger_provider(
    processors: Sequence[LogRecordProcessor], resource: Resource
) -> SdkLoggerProvider | None:
    if not processors:
        return None
    provider = SdkLoggerProvider(resource=resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_log_record_processor(processor)
    return provider


def _is_placeholder(provider: object) -> bool:
    return type(provider).__module__.split(".")[:2] in (
        ["opentelemetry", "metrics"],
        ["opentelemetry", "trace"],
    )
