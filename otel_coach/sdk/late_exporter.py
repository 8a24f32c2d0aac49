"""Creates the exporter of spans when it first exports.

OTLP's exporters import protobuf, gRPC or requests. That takes as long as all of otel-coach, and a
service should answer before it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_coach.core.forks import in_each_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class LateExporter(SpanExporter):
    """The exporter that `create` returns, created in the thread that first exports.

    If `create` returns None, nothing is exported; it is not called again.
    """

    def __init__(self, create: Callable[[], SpanExporter | None]) -> None:
        self._create = create
        self._exporter: SpanExporter | None = None
        self._is_created = False
        self._is_shut_down = False
        self._begin()
        in_each_child(self._begin)

    def _begin(self) -> None:
        # A forked child has no thread that could free its parent's lock.
        self._creating = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Returns the exporter's result; a failure if there is no exporter."""
        with self._creating:
            if not self._is_created and not self._is_shut_down:
                self._exporter = self._create()
                self._is_created = True
        exporter = self._exporter
        return SpanExportResult.FAILURE if exporter is None else exporter.export(spans)

    def shutdown(self) -> None:
        """Shuts the exporter down, if it was created; it is not created any more."""
        self._is_shut_down = True
        if self._exporter is not None:
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flushes the exporter, if it was created; there is nothing to flush otherwise."""
        return self._exporter is None or self._exporter.force_flush(timeout_millis)
