"""The figures of all workers of a service, as their files say them: read once, then what is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.exposition.merging import Merged
from otel_coach.exposition.snapshot import from_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_coach.exposition.table import Table
    from otel_coach.workers.figures import Figures

    Everybody = Callable[[Mapping[str, tuple[bytes, int]]], Sequence[Figures]]

HEAD: Final = 64
"""Bytes of a file's beginning, in which no other file is like it."""


class Fleet:
    """What was read of all workers so far.

    Args:
        everybody: the figures of all workers. It is told, by worker, how the file began that was
            read of it, and how far it was read.
    """

    def __init__(self, everybody: Everybody) -> None:
        self._everybody = everybody
        self._merged = Merged()
        self._read: dict[str, tuple[bytes, int]] = {}

    def tables(self) -> tuple[Iterable[Table], Sequence[str]]:
        """The merged families, and the workers that show their last figures only.

        Raises:
            OSError: some worker's figures cannot be read; without them, counters would fall.
        """
        everybody = self._everybody(self._read)
        try:
            self._take(everybody)
        except BaseException:
            self.forget()  # some of it may be in already
            raise
        living = {figures.worker for figures in everybody if figures.lives}
        return self._merged.tables(living), [one.worker for one in everybody if one.stale]

    def forget(self) -> None:
        """Begin anew: the next time, all is read."""
        self._merged = Merged()
        self._read = {}

    def _take(self, everybody: Sequence[Figures]) -> None:
        for gone in self._read.keys() - {figures.worker for figures in everybody}:
            self._merged.begin(gone)
            self._read.pop(gone)
        for figures in everybody:
            if figures.content is not None:
                self._take_one(figures.worker, figures.content, figures.offset)

    def _take_one(self, worker: str, content: bytes, offset: int) -> None:
        if not offset:
            self._merged.begin(worker)
        whose = worker.partition("-")[0]
        try:
            snapshots, end = from_bytes(content, is_beginning=not offset)
        except ValueError as error:
            message = f"the figures of worker {whose} cannot be read: {error}"
            raise OSError(message) from error
        for snapshot in snapshots:
            self._merged.add(snapshot, worker)
        head = self._read[worker][0] if offset else content[:HEAD]
        self._read[worker] = head, offset + end
