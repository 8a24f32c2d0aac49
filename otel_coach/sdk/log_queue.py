"""The SDK's batch processor of log records, with its losses counted.

Imported only where log records are exported: importing the SDK's logs runs all resource detectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.environment_variables import OTEL_BLRP_MAX_QUEUE_SIZE

from otel_coach.metrics.labels import LOGS_EXPORT
from otel_coach.sdk.logs import Exporting, is_exporting
from otel_coach.sdk.losses import CountedExporter
from otel_coach.sdk.queues import create_with_places, shut_down_in_time

if TYPE_CHECKING:
    from otel_coach.sdk.losses import Losses


class CountedLogs(BatchLogRecordProcessor):
    """The SDK's processor, extended: drops and counts a record that finds the queue full."""

    def __init__(self, exporter: Any, losses: Losses) -> None:
        self._losses = losses
        self._exports = losses.of_queue(LOGS_EXPORT, losses.log_slots)
        counted: Any = CountedExporter(Exporting(exporter), self._exports)
        create_with_places(super().__init__, counted, losses.log_slots)

    def on_emit(self, log_record: Any) -> None:
        """Queues the record, unless it was logged by an export."""
        if is_exporting():
            return
        if self._exports.take():
            super().on_emit(log_record)
        elif self._exports.is_closed:
            self._losses.add(LOGS_EXPORT, 1)
        else:
            self._losses.no_slot(LOGS_EXPORT, "log records", OTEL_BLRP_MAX_QUEUE_SIZE)

    def shutdown(self) -> None:
        """Exports what is queued, for as long as `Losses.end` allows."""
        shut_down_in_time(self, super().shutdown, self._losses, self._exports)
