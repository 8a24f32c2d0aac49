"""Merges the metrics of all workers of a service; reads only what is new in their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.prometheus.merge import Merged
from otel_coach.prometheus.snapshot import from_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_coach.prometheus.table import Table
    from otel_coach.workers.worker_metrics import WorkerMetrics

    ReadMetrics = Callable[[Mapping[str, tuple[bytes, int]]], Sequence[WorkerMetrics]]

HEAD: Final = 64
"""How many bytes at the start of a file identify it: they contain a random token."""


class AllWorkers:
    """The merged metrics of all workers, and how far each of their files was read.

    Args:
        read_metrics: returns the metrics of all workers. Its argument maps each worker to the first
            bytes of its file, and to the number of bytes of the file that are merged already.
    """

    def __init__(self, read_metrics: ReadMetrics) -> None:
        self._read_metrics = read_metrics
        self._merged = Merged()
        self._read: dict[str, tuple[bytes, int]] = {}

    def tables(self) -> tuple[Iterable[Table], Sequence[str]]:
        """Returns the merged families, and the names of the workers whose metrics are stale.

        Raises:
            OSError: the metrics of a worker cannot be read; without them, counters would drop.
        """
        all_metrics = self._read_metrics(self._read)
        try:
            self._take(all_metrics)
        except BaseException:
            self.forget()  # only some of the files may have been merged
            raise
        living = {metrics.worker for metrics in all_metrics if metrics.lives}
        return self._merged.tables(living), [
            metrics.worker for metrics in all_metrics if metrics.stale
        ]

    def forget(self) -> None:
        """Forgets everything, so that the next call of `tables` reads all files in full."""
        self._merged = Merged()
        self._read = {}

    def _take(self, all_metrics: Sequence[WorkerMetrics]) -> None:
        for gone in self._read.keys() - {metrics.worker for metrics in all_metrics}:
            self._merged.forget(gone)
            self._read.pop(gone)
        for metrics in all_metrics:
            if metrics.content is not None:
                self._take_one(metrics.worker, metrics.content, metrics.offset)

    def _take_one(self, worker: str, content: bytes, offset: int) -> None:
        if not offset:
            self._merged.forget(worker)
        pid = worker.partition("-")[0]
        try:
            snapshots, end = from_bytes(content, is_beginning=not offset)
        except ValueError as error:
            message = f"the figures of worker {pid} cannot be read: {error}"
            raise OSError(message) from error
        for snapshot in snapshots:
            self._merged.add(snapshot, worker)
        head = self._read[worker][0] if offset else content[:HEAD]
        self._read[worker] = head, offset + end
