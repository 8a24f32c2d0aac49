"""Builds the meter and tracer providers, by the SDK's public API only."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from prometheus_client import CollectorRegistry

from otel_coach.budgets import Budgets
from otel_coach.exposition.reader import ExemplarReader
from otel_coach.foreign import ForeignMeters
from otel_coach.recorder import Recorder
from otel_coach.redaction import RedactingSpanProcessor
from otel_coach.resource import process_resource
from otel_coach.views import build_views
from otel_coach.vocabulary import LABEL_SET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter
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

_Part = TypeVar("_Part")
_OTLP_COMPONENT: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


class CoachMeterProvider(MeterProvider):
    """A MeterProvider under which there is one HTTP family: ours."""

    foreign: ForeignMeters | None = None
    """What bounds meters that are not ours."""

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
        return meter if self.foreign is None else self.foreign.bounded(meter)


class Providers:
    """The providers of this process and what is read from them.

    `registry` holds our families for the page. `tracer_provider` is the global one, whoever
    sets it and when, where no exporter of ours is configured.
    """

    def __init__(
        self,
        settings: Settings,
        span_processors: Sequence[SpanProcessor] = (),
        *,
        version: str = "",
    ) -> None:
        resource = process_resource()
        self.registry = CollectorRegistry(auto_describe=False)
        self.page_reader = _page_reader(settings, self.registry)
        self._push_readers = list(_push_readers(settings))
        self.meter_provider = CoachMeterProvider(
            metric_readers=[
                *([self.page_reader] if self.page_reader else []),
                *self._push_readers,
            ],
            resource=resource,
            views=build_views(
                {label for labels in settings.admitted.values() for label in labels},
                settings.budgets[LABEL_SET],
            ),
            shutdown_on_exit=False,
        )
        self.budgets = Budgets(settings.budgets, settings.pinned, settings.admitted)
        self.recorder = Recorder(self.meter_provider.get_meter("otel_coach", version), self.budgets)
        self.meter_provider.foreign = ForeignMeters(self.recorder, self.budgets, settings.admitted)
        self._own_tracer_provider = _tracer_provider(
            [*_exporting_processors(settings), *span_processors], resource
        )

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

    def flush(self, timeout: float = 5.0) -> None:
        """Export what is ended; waits at most about `timeout` seconds for each signal."""
        self.recorder.settle_all()
        milliseconds = int(timeout * 1000)
        if self._own_tracer_provider:
            self._own_tracer_provider.force_flush(milliseconds)
        for reader in self._push_readers:
            reader.force_flush(milliseconds)

    def shutdown(self) -> None:
        """Flush and stop all exporters."""
        self.recorder.close()
        if self._own_tracer_provider:
            self._own_tracer_provider.shutdown()
        self.meter_provider.shutdown()


def _page_reader(settings: Settings, registry: CollectorRegistry) -> ExemplarReader | None:
    if not settings.serves_metrics:
        return None
    return ExemplarReader(
        disable_target_info=not settings.target_info,
        scope_info_enabled=False,
        registry=registry,
    )


def _push_readers(settings: Settings) -> Iterator[MetricReader]:
    names = (name for name in settings.metric_exporters if name != "prometheus")
    return _started(_METRICS, names, settings.otlp_metrics_protocol)


def _exporting_processors(settings: Settings) -> Iterator[SpanProcessor]:
    return _started(_TRACES, settings.trace_exporters, settings.otlp_traces_protocol)


def _tracer_provider(
    span_processors: Sequence[SpanProcessor], resource: Resource
) -> TracerProvider | None:
    if not span_processors:
        return None
    try:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    except ValueError as error:
        _logger.error(  # noqa: TRY400 - one line with the cure
            "otel-coach: traces are off: %s; correct the OTEL_SPAN_* or OTEL_TRACES_* variable",
            error,
        )
        return None
    for processor in span_processors:
        provider.add_span_processor(RedactingSpanProcessor(processor))
    return provider


def _processor(exporter: SpanExporter) -> SpanProcessor:
    # A person who watches the console wants a span when it ends, not five seconds later.
    if isinstance(exporter, ConsoleSpanExporter):
        return SimpleSpanProcessor(exporter)
    return BatchSpanProcessor(exporter)


@dataclass(frozen=True)
class _Signal(Generic[_Part]):
    """What differs between traces and metrics where their exporters are started."""

    name: str
    variable: str
    tuning: str
    """The SDK's variables that say how often and how much."""
    around: Callable[[Any], _Part]
    """What sends through an exporter."""


_TRACES: Final = _Signal[SpanProcessor]("traces", "OTEL_TRACES_EXPORTER", "OTEL_BSP_*", _processor)
_METRICS: Final = _Signal[MetricReader](
    "metrics", "OTEL_METRICS_EXPORTER", "OTEL_METRIC_EXPORT_*", PeriodicExportingMetricReader
)


def _started(signal: _Signal[_Part], names: Iterable[str], protocol: str) -> Iterator[_Part]:
    """What sends `signal` through each exporter of `names`.

    One that cannot be had is one line with the cure; the service starts whatever a plug-in does.
    """
    for name in names:
        component = _OTLP_COMPONENT.get(protocol, protocol) if name == "otlp" else name
        found = tuple(entry_points(group=f"opentelemetry_{signal.name}_exporter", name=component))
        if not found:
            is_otlp = component.startswith("otlp")
            _logger.error(
                "otel-coach: %s=%r: no exporter %s is installed; %s go nowhere. Cure: %s",
                signal.variable,
                name,
                component,
                signal.name,
                "pip install 'otel-coach[otlp]'" if is_otlp else "correct the name",
            )
            continue
        try:
            yield signal.around(found[0].load()())
        except Exception as error:  # noqa: BLE001 - whatever a plug-in raises
            _logger.error(  # noqa: TRY400 - one line; a traceback says nothing more to its reader
                "otel-coach: %s=%r: the exporter %s did not start (%s: %s); %s go nowhere through "
                "it. Its own variables or %s may be wrong",
                signal.variable,
                name,
                component,
                type(error).__name__,
                error,
                signal.name,
                signal.tuning,
            )


def _is_placeholder(provider: object) -> bool:
    return type(provider).__module__.split(".")[:2] in (
        ["opentelemetry", "metrics"],
        ["opentelemetry", "trace"],
    )
