"""The SDK's queue of log records, which counts what it loses.

Imported only where log records are sent: the SDK's logs run all resource detectors as they are
imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.environment_variables import OTEL_BLRP_MAX_QUEUE_SIZE

from otel_coach.logs import Exporting, is_exporting
from otel_coach.losses import CountedExporter
from otel_coach.queues import stopped
from otel_coach.vocabulary import LOGS_EXPORT

if TYPE_CHECKING:
    from otel_coach.losses import Losses


class CountedLogs(BatchLogRecordProcessor):
    """The SDK's, whose queue is never over-full: what finds no place in it is counted."""

    def __init__(self, exporter: Any, losses: Losses) -> None:
        self._losses = losses
        self._exports = losses.of_queue(LOGS_EXPORT, losses.log_places)
        counted: Any = CountedExporter(Exporting(exporter), self._exports)
        super().__init__(counted, max_queue_size=losses.log_places)

    def on_emit(self, log_record: Any) -> None:
        """Queue it, unless the export of others logged it."""
        if is_exporting():
            return
        if self._exports.take():
            super().on_emit(log_record)
        elif self._exports.is_closed:
            self._losses.add(LOGS_EXPORT, 1)
        else:
            self._losses.no_place(LOGS_EXPORT, "log records", OTEL_BLRP_MAX_QUEUE_SIZE)

    def shutdown(self) -> None:
        """Send what is left, until the end that was set."""
        stopped(self, super().shutdown, self._losses)
        self._exports.close()
