"""The application's log records, exported as the stock configurator exports them.

A handler at the root logger turns each record of Python's `logging` into one of OpenTelemetry's.
Nothing of a record is changed or left out: what the application writes into its log is its own.
Imported only where log records are exported: see `log_queue`.
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

from otel_coach.patches import replaced, undone

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

_logger = logging.getLogger("otel_coach")

_emitting: Final = ContextVar("otel_coach_emitting", default=False)
_exporting: Final = ContextVar("otel_coach_exporting", default=False)


def is_exporting() -> bool:
    """Whether what is logged now is logged by an export, and must not be the cause of the next.

    An HTTP client logs each request at DEBUG.
    """
    return _exporting.get()


class Exporting:
    """An exporter that marks the context in which it exports."""

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
    """Remembers that there was a record."""

    has_records = False

    def on_emit(self, log_record: Any) -> None:
        self.has_records = True

    def shutdown(self) -> None:
        """Nothing to stop."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class CoachLoggerProvider(LoggerProvider):
    """The SDK's LoggerProvider; it knows whether there was a record in this process."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource=resource, shutdown_on_exit=False)
        self._noted = _Noted()
        self.add_log_record_processor(self._noted)

    @property
    def has_records(self) -> bool:
        """Whether a record was emitted."""
        return self._noted.has_records

    def forget_records(self) -> None:
        """After a fork: the parent's are not this process's."""
        self._noted.has_records = False


def install_handler(provider: LoggerProvider) -> Callable[[], None]:
    """Hand the records of Python's `logging` to `provider`. What is returned undoes it.

    As the stock configurator does: all levels, at the root logger, and the application's own
    configuration of `logging` neither takes the handler away nor finds it in its way.
    """
    handler = _handler(provider)
    if handler is None:
        return lambda: None
    from logging import config  # noqa: PLC0415 - only where asked for

    root = logging.getLogger()
    root.addHandler(handler)
    undo = [
        replaced(owner, name, partial(_without, handler))
        for owner, name in (
            (logging, "basicConfig"),  # does nothing where the root logger has a handler
            (config, "dictConfig"),  # takes the root logger's handlers off
            (config, "fileConfig"),
        )
    ]

    def restore() -> None:
        undone(undo)
        root.removeHandler(handler)

    return restore


def _without(handler: logging.Handler, configure: Callable[..., Any]) -> Callable[..., Any]:
    """`configure`, which does not see `handler`."""
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
    """The stock handler; it never raises into the code that logs."""
    stock = _stock_handler()
    if stock is None:
        _logger.error(
            "otel-coach: log records go nowhere: neither this SDK nor "
            "opentelemetry-instrumentation-logging has a LoggingHandler. Cure: pip install "
            "opentelemetry-instrumentation-logging"
        )
        return None

    class Handler(stock):
        def emit(self, record: logging.LogRecord) -> None:
            # What the SDK logs about a record must not become one: it would have no end.
            if _emitting.get():
                return
            token = _emitting.set(True)
            try:
                super().emit(record)
            except Exception:  # noqa: BLE001 - as the handlers of `logging` itself
                self.handleError(record)
            finally:
                _emitting.reset(token)

        def flush(self) -> None:
            with suppress(RuntimeError):  # it starts a thread, which an ending process cannot
                super().flush()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Handler(level=logging.NOTSET, logger_provider=provider)


def _stock_handler() -> Any:
    """The SDK's LoggingHandler, which a later SDK leaves to the instrumentation of `logging`."""
    with suppress(ImportError, AttributeError):
        from opentelemetry.sdk._logs import LoggingHandler  # noqa: PLC0415 - only where asked for

        return LoggingHandler
    with suppress(ImportError, AttributeError):
        return import_module("opentelemetry.instrumentation.logging.handler").LoggingHandler
    return None
