"""Exporters as the settings name them; a dead back end makes them neither loud nor slow."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from otel_coach.guards import OwnThread, is_the_hosts, raised_at
from otel_coach.losses import Losses
from otel_coach.patches import undone
from otel_coach.queues import PushReader, span_processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.trace import SpanProcessor

    from otel_coach.guards import CountsFaults
    from otel_coach.settings import Settings

_logger = logging.getLogger("otel_coach")

_MINUTE: Final = 60.0
_OF_EXPORTERS: Final = ("opentelemetry.exporter.", "opentelemetry.sdk.")
_WITH_PASSWORD: Final = re.compile(r"//[^/@\s]+@")
_OTLP_SPANS: Final = (
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)
_OTLP_COMPONENT: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_Part = TypeVar("_Part")


class OneLineAMinute(logging.Filter):
    """Lets one warning or error a minute through, of all the loggers that it is put on.

    The SDK's exporters write one for each attempt, which is one a second while a back end is
    down.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since = -_MINUTE
        self._left_out = 0
        self._loggers = set[logging.Logger]()

    def quieten(self, exporter: object, *more: object) -> None:
        """Put it on the loggers of `exporter` and of what sends through it."""
        for part in (exporter, *more):
            for cls in type(part).__mro__:
                if cls.__module__.startswith(_OF_EXPORTERS):
                    logger = logging.getLogger(cls.__module__)
                    logger.addFilter(self)
                    self._loggers.add(logger)
        shared = logging.getLogger("opentelemetry.sdk._shared_internal")  # where batches are sent
        shared.addFilter(self)
        self._loggers.add(shared)

    def undo(self) -> None:
        """Take it off all of them."""
        for logger in self._loggers:
            logger.removeFilter(self)
        self._loggers.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if monotonic() - self._since < _MINUTE:
            self._left_out += 1
            return False
        if self._left_out:
            record.msg = f"{record.msg} ({self._left_out} more in the minute before)"
        self._since, self._left_out = monotonic(), 0
        return True


class Exporters:
    """What sends to the back ends that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._quiet = OneLineAMinute()
        self.losses = Losses(settings.span_queue, settings.log_queue)
        self._undo: Sequence[Callable[[], None]] = ()

    def readers(self) -> list[PushReader]:
        """Those that push metrics."""
        settings = self._settings
        names = [name for name in settings.metric_exporters if name != "prometheus"]
        protocol = settings.otlp_metrics_protocol
        return [*_started(_METRICS, names, protocol, self._quiet, self.losses)]

    def span_processors(self, recorder: CountsFaults) -> list[SpanProcessor]:
        """Those that send spans; `recorder` counts the faults of what is ours in them."""
        settings = self._settings
        names, protocol = settings.trace_exporters, settings.otlp_traces_protocol
        processors = [*_started(_TRACES, names, protocol, self._quiet, self.losses)]
        loaded = [module for name in _OTLP_SPANS if (module := sys.modules.get(name))]
        if loaded and not self._undo:
            with suppress(ImportError):  # a library that is not as it was: its own encoder does it
                from otel_coach import otlp  # noqa: PLC0415 - the exporters are optional

                self._undo = otlp.encode_with(recorder, loaded)
        return processors

    def log_processors(self) -> list[LogRecordProcessor]:
        """Those that send log records and events."""
        settings = self._settings
        names, protocol = settings.log_exporters, settings.otlp_logs_protocol
        return [*_started(_LOGS, names, protocol, self._quiet, self.losses)]

    def undo(self) -> None:
        """Let the exporters and their logs be as they were."""
        self._quiet.undo()
        undone(self._undo)


def _log_processor(exporter: Any, losses: Losses) -> LogRecordProcessor:
    from otel_coach.log_queue import CountedLogs  # noqa: PLC0415 - see there

    return CountedLogs(exporter, losses)


@dataclass(frozen=True)
class _Signal(Generic[_Part]):
    """What differs between the signals where their exporters are started."""

    name: str
    variable: str
    tuning: str
    """The SDK's variables that say how often and how much."""
    around: Callable[[Any, Losses], _Part]
    """What sends through an exporter, and counts what it loses."""


_TRACES: Final = _Signal("traces", "OTEL_TRACES_EXPORTER", "OTEL_BSP_*", span_processor)
_METRICS: Final = _Signal("metrics", "OTEL_METRICS_EXPORTER", "OTEL_METRIC_EXPORT_*", PushReader)
_LOGS: Final = _Signal("logs", "OTEL_LOGS_EXPORTER", "OTEL_BLRP_*", _log_processor)


def _started(
    signal: _Signal[_Part],
    names: Iterable[str],
    protocol: str,
    quiet: OneLineAMinute,
    losses: Losses,
) -> Iterator[_Part]:
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
            exporter = found[0].load()()
            part = signal.around(exporter, losses)
        except Exception as error:  # noqa: BLE001 - whatever a plug-in raises
            _logger.error(  # noqa: TRY400 - one line; a traceback says nothing more to its reader
                "otel-coach: %s=%r: the exporter %s did not start (%s: %s); %s go nowhere through "
                "it. Its own variables or %s may be wrong",
                signal.variable,
                name,
                component,
                type(error).__name__,
                _WITH_PASSWORD.sub("//", str(error)),
                signal.name,
                signal.tuning,
            )
        else:
            quiet.quieten(exporter, part)
            yield part


def at_once(actions: Iterable[Callable[[float], Any]], seconds: float) -> None:
    """Run `actions` side by side, waiting at most `seconds` for all: one may hang, others not.

    Each is told how many seconds it has. Where no thread can be had (in the end of Python 3.12.0 to
    3.12.2, or of a process that has as many as it may), they run one after the other in this
    thread, with an equal share of what is left, and it is on them to keep to it.
    """
    deadline = monotonic() + seconds
    threads: list[OwnThread] = []
    left: list[Callable[[float], Any]] = []
    for action in actions:
        thread = OwnThread(partial(_harmless, action, seconds), "otel-coach-export")
        try:
            thread.start()
        except RuntimeError:
            left.append(action)
        else:
            threads.append(thread)
    for place, action in enumerate(left):
        _harmless(action, max(0.0, deadline - monotonic()) / (len(left) - place))
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))


def _harmless(action: Callable[[float], Any], seconds: float) -> None:
    try:
        action(seconds)
    except BaseException as error:  # whatever a plug-in raises, the others go on
        if is_the_hosts(error):
            raise
        # Without its message, which may repeat an address with a password.
        _logger.warning(
            "otel-coach: an exporter could not be flushed or stopped (%s in %s)",
            type(error).__name__,
            raised_at(error),
        )
