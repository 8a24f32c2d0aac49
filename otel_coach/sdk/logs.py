"""Exports the application's log records, as OpenTelemetry's own configurator does.

A handler at the root logger turns each record of Python's `logging` into one of OpenTelemetry's.
Records are neither changed nor redacted: their content is the application's responsibility. This
module is imported only where log records are exported, for the reason given in `log_queue`.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor

from otel_coach.core.patching import replace_method, undo_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

_logger = logging.getLogger("otel_coach")

_emitting: Final = ContextVar("otel_coach_emitting", default=False)
_exporting: Final = ContextVar("otel_coach_exporting", default=False)


def is_exporting() -> bool:
    """Returns whether an export is running in this context.

    What an export logs must not be exported, or each export would cause the next one: an HTTP
    client logs each request at DEBUG.
    """
    return _exporting.get()


class Exporting:
    """Wraps an exporter so that `is_exporting` is true while it exports."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def export(self, batch: Any) -> Any:
        token = _exporting.set(True)
        try:
            return self._exporter.export(batch)
        finally:
            _exporting.reset(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exporter, name)


class _Noted(LogRecordProcessor):
    """Remembers whether a record was emitted."""

    has_records = False

    def on_emit(self, log_record: Any) -> None:
        self.has_records = True

    def shutdown(self) -> None:
        """Nothing to stop."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class CoachLoggerProvider(LoggerProvider):
    """The SDK's LoggerProvider, which also knows whether this process has emitted a record."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource=resource, shutdown_on_exit=False)
        self.before_flush: Callable[[float], object] = bool
        """As for the meter provider: otel-coach's events wait in the recorder."""
        self._record_flag = _Noted()
        self.add_log_record_processor(self._record_flag)

    @property
    def has_records(self) -> bool:
        """Whether a record was emitted in this process."""
        return self._record_flag.has_records

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Exports all records, also events that wait in the recorder."""
        self.before_flush(0)  # which emits events, and waits for no collection of metrics
        return super().force_flush(timeout_millis)

    def forget_records(self) -> None:
        """Called after a fork: records of the parent do not count for this process."""
        self._record_flag.has_records = False


def install_handler(provider: LoggerProvider) -> Callable[[], None]:
    """Passes log records to `provider` by a root handler; returns a function that removes it.

    As with OpenTelemetry's own configurator, the handler handles all levels. The application's
    configuration of `logging` does not remove it, and works as if it were not there.
    """
    handler = _handler(provider)
    if handler is None:
        return lambda: None
    from logging import config  # noqa: PLC0415 - only where it is used

    root = logging.getLogger()
    root.addHandler(handler)
    undo = [
        replace_method(owner, name, partial(_hidden_from, handler))
        for owner, name in (
            (logging, "basicConfig"),  # does nothing where the root logger has a handler
            (config, "dictConfig"),  # removes the root logger's handlers
            (config, "fileConfig"),
        )
    ]

    def restore() -> None:
        undo_all(undo)
        root.removeHandler(handler)

    return restore


def _hidden_from(handler: logging.Handler, configure: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `configure`, wrapped so that `handler` is not installed while it runs."""
    root = logging.getLogger()

    def configured(*args: Any, **kwargs: Any) -> Any:
        was_there = handler in root.handlers
        if was_there:
            root.removeHandler(handler)
        try:
            return configure(*args, **kwargs)
        finally:
            if was_there:
                root.addHandler(handler)

    return configured


def _handler(provider: LoggerProvider) -> logging.Handler | None:
    """Returns OpenTelemetry's handler, which never raises into the code that logs."""
    base = _logging_handler_class()
    if base is None:
        _logger.error(
            "otel-coach: %s. Cure: %s",
            "log records are not exported: neither this SDK nor "
            "opentelemetry-instrumentation-logging has a LoggingHandler",
            "pip install opentelemetry-instrumentation-logging",
        )
        return None

    class Handler(base):
        def emit(self, record: logging.LogRecord) -> None:
            # What the SDK logs about a record must not become a record: that would never end.
            if _emitting.get():
                return
            token = _emitting.set(True)
            try:
                super().emit(record)
            except Exception:  # noqa: BLE001 - as the handlers of `logging` do
                self.handleError(record)
            finally:
                _emitting.reset(token)

        def flush(self) -> None:
            with suppress(RuntimeError):  # starts a thread, which fails while the process ends
                super().flush()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Handler(level=logging.NOTSET, logger_provider=provider)


def _logging_handler_class() -> Any:
    """Returns the SDK's LoggingHandler, or contrib's for later SDKs; None if there is neither."""
    with suppress(ImportError, AttributeError):
        from opentelemetry.sdk._logs import LoggingHandler  # noqa: PLC0415 - may be missing

        return LoggingHandler
    with suppress(ImportError, AttributeError):
        return import_module("opentelemetry.instrumentation.logging.handler").LoggingHandler
    return None
