"""Creates the exporters that the settings name.

While a back end is unreachable, the log gets one line a minute, and flushing and stopping take
limited time.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from otel_coach.core.entry_points import entry_points
from otel_coach.core.guard import OwnThread, belongs_to_host, raised_at
from otel_coach.core.patching import undo_all
from otel_coach.core.plugins import exporter_component, package_of
from otel_coach.core.record import record
from otel_coach.core.traps import NO_EXPORTER
from otel_coach.sdk.forked_exporters import own_exporter
from otel_coach.sdk.losses import Losses
from otel_coach.sdk.queues import PushReader, span_processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from importlib.metadata import EntryPoint

    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.trace import SpanProcessor

    from otel_coach.core.guard import CountsFaults
    from otel_coach.metrics.measurement_queue import MeasurementQueue
    from otel_coach.settings import Settings

_logger = logging.getLogger("otel_coach")

_MINUTE: Final = 60.0
_EXPORTS: Final = re.compile(r"opentelemetry\.(exporter|sdk\.(.+\.)?export)(\..+)?")
"""Modules whose loggers are about exports only."""
_SHARED: Final = "opentelemetry.sdk._shared_internal"
"""The module that logs failed exports of spans and log records."""
_Sender = TypeVar("_Sender")


class OneLineAMinute(logging.Filter):
    """Passes one warning or error a minute, counted over all loggers that it is installed on.

    The SDK's exporters log one for each attempt, which is one a second while a back end is down.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last_passed = -_MINUTE
        self._suppressed = 0
        self._loggers = set[logging.Logger]()

    def quieten(self, exporter: object, *more: object) -> None:
        """Installs this filter on the loggers of `exporter` and of `more` parts that use it."""
        for sender in (exporter, *more):
            for cls in sender.__class__.__mro__:  # a proxy's `__class__` is the wrapped exporter's
                if _EXPORTS.fullmatch(cls.__module__):
                    self._install(cls.__module__)
        self._install(_SHARED)

    def _install(self, name: str) -> None:
        logger = logging.getLogger(name)
        logger.addFilter(self)
        self._loggers.add(logger)

    def undo(self) -> None:
        """Removes this filter from all loggers."""
        for logger in self._loggers:
            logger.removeFilter(self)
        self._loggers.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if monotonic() - self._last_passed < _MINUTE:
            self._suppressed += 1
            return False
        if self._suppressed:
            more = f"{self._suppressed} more were left out after the last such line"
            record.msg = f"{record.msg} ({more})"
        self._last_passed, self._suppressed = monotonic(), 0
        return True


class ExportPipelines:
    """Creates the processors and readers that send to the back ends in the settings.

    Args:
        settings: names the exporters.
        queue: receives the counts of what is lost.
    """

    def __init__(self, settings: Settings, queue: MeasurementQueue) -> None:
        self._settings = settings
        self._log_filter = OneLineAMinute()
        self.losses = Losses(queue, settings.span_queue, settings.log_queue)
        self._undo: Sequence[Callable[[], None]] = ()

    def readers(self, is_idle: Callable[[], bool]) -> list[PushReader]:
        """Returns the readers that push metrics; they push nothing while `is_idle()` is true."""
        settings = self._settings
        names = [name for name in settings.metric_exporters if name != "prometheus"]
        protocol = settings.otlp_metrics_protocol
        signal = replace(_METRICS, wrap=partial(PushReader, is_idle=is_idle))
        return [*_senders(signal, names, protocol, self._log_filter, self.losses)]

    def span_processors(self, recorder: CountsFaults) -> list[SpanProcessor]:
        """Returns the processors that send spans; `recorder` counts otel-coach's own faults."""
        settings = self._settings
        names, protocol = settings.trace_exporters, settings.otlp_traces_protocol
        processors = [*_senders(_TRACES, names, protocol, self._log_filter, self.losses)]
        if processors and not self._undo:
            from otel_coach.sdk import otlp_encoder  # noqa: PLC0415 - for spans that are sent only

            self._undo = otlp_encoder.encode_with(recorder)
        return processors

    def log_processors(self) -> list[LogRecordProcessor]:
        """Returns the processors that send log records and events."""
        settings = self._settings
        names, protocol = settings.log_exporters, settings.otlp_logs_protocol
        return [*_senders(_LOGS, names, protocol, self._log_filter, self.losses)]

    def undo(self) -> None:
        """Restores the exporters' modules and loggers."""
        self._log_filter.undo()
        undo_all(self._undo)


def _imported(exporter: EntryPoint) -> Callable[[], Any]:
    return exporter.load()


def _imported_for_spans(exporter: EntryPoint) -> Callable[[], Any]:
    from otel_coach.sdk import otlp_encoder  # noqa: PLC0415 - for spans that are sent only

    return otlp_encoder.imported_without_protobuf(exporter.load)


def _log_processor(exporter: Any, losses: Losses) -> LogRecordProcessor:
    from otel_coach.sdk.log_queue import CountedLogs  # noqa: PLC0415 - see its docstring

    return CountedLogs(exporter, losses)


@record
class _Signal(Generic[_Sender]):
    """What is different for each signal when its exporters are created."""

    name: str
    variable: str
    tuning: str
    """The SDK's variables for intervals, timeouts and sizes."""
    wrap: Callable[[Any, Losses], _Sender]
    """Wraps an exporter in the processor or reader that sends through it and counts losses."""
    imported: Callable[[EntryPoint], Callable[[], Any]] = _imported
    """Imports an exporter, and returns its class."""


_TRACES: Final = _Signal(
    "traces", "OTEL_TRACES_EXPORTER", "OTEL_BSP_*", span_processor, _imported_for_spans
)
_METRICS: Final = _Signal("metrics", "OTEL_METRICS_EXPORTER", "OTEL_METRIC_EXPORT_*", PushReader)
_LOGS: Final = _Signal("logs", "OTEL_LOGS_EXPORTER", "OTEL_BLRP_*", _log_processor)


def _senders(
    signal: _Signal[_Sender],
    names: Iterable[str],
    protocol: str,
    log_filter: OneLineAMinute,
    losses: Losses,
) -> Iterator[_Sender]:
    """Yields the processor or reader that sends `signal` through each exporter of `names`.

    For an exporter that cannot be created, one log line names the cure, and nothing is raised.
    """
    for name in names:
        component = exporter_component(name, protocol)
        found = tuple(entry_points(group=f"opentelemetry_{signal.name}_exporter", name=component))
        if not found:
            line = NO_EXPORTER.found(
                variable=signal.variable,
                name=name,
                component=component,
                signal=signal.name,
                package=package_of(component),
            )
            _logger.error("otel-coach: %s", line)
            continue
        try:
            exporter = own_exporter(signal.imported(found[0]))
            sender = signal.wrap(exporter, losses)
        except Exception as error:  # whatever a plug-in raises
            if belongs_to_host(error):
                raise
            _logger.error(  # noqa: TRY400 - one line, without the message: it may have a password
                "otel-coach: %s=%r: the exporter %s did not start (%s in %s); it exports no %s. "
                "Its own variables or %s may be wrong",
                signal.variable,
                name,
                component,
                type(error).__name__,
                raised_at(error),
                signal.name,
                signal.tuning,
            )
        else:
            log_filter.quieten(exporter, sender)
            yield sender


def run_at_once(actions: Iterable[Callable[[float], Any]], seconds: float) -> None:
    """Runs `actions` concurrently for at most `seconds`; one that hangs does not delay the others.

    Each action is passed the number of seconds that it has. Where no thread can be started (while
    Python 3.12.0 to 3.12.2 shuts down, or in a process that has reached its limit of threads), the
    actions run in the calling thread, one after the other. Each is then passed an equal share of
    the time that is left, and has to keep to it by itself.
    """
    deadline = monotonic() + seconds
    threads: list[OwnThread] = []
    without_thread: list[Callable[[float], Any]] = []
    for action in actions:
        thread = OwnThread(partial(_run_guarded, action, seconds), "otel-coach-export")
        try:
            thread.start()
        except RuntimeError:
            without_thread.append(action)
        else:
            threads.append(thread)
    for index, action in enumerate(without_thread):
        _run_guarded(action, max(0.0, deadline - monotonic()) / (len(without_thread) - index))
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))


def _run_guarded(action: Callable[[float], Any], seconds: float) -> None:
    try:
        action(seconds)
    except BaseException as error:  # whatever a plug-in raises, the other actions go on
        if belongs_to_host(error):
            raise
        # Without the message, which may contain a URL with a password.
        _logger.warning(
            "otel-coach: an exporter could not be flushed or stopped (%s in %s)",
            type(error).__name__,
            raised_at(error),
        )
