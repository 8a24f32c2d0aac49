"""The page: this process's families where it serves alone, else those of all workers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from otel_coach.exposition.merging import Merged
from otel_coach.exposition.negotiation import format_of
from otel_coach.exposition.snapshot import Snapshot, from_bytes, to_bytes
from otel_coach.exposition.turns import short_turns
from otel_coach.workers.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from otel_coach.exposition.application_page import ApplicationPage
    from otel_coach.exposition.families import LocalFamilies
    from otel_coach.recorder import Recorder
    from otel_coach.workers.group import Figures

_CPU_SECONDS: Final = "process_cpu_seconds"
"""A counter that prometheus_client leaves out where it has no descriptor to read it."""
_DEAD: Final = "a worker that has ended"
_EOF: Final = b"# EOF\n"
_HIDDEN: Final = b"# otel-coach: another family %b of this process is not shown; rename it\n"
_STALE: Final = (
    b"# otel-coach: worker %b does not answer or cannot write; these are its last figures\n"
)
_ALONE: Final = (
    b"# otel-coach: these are the figures of worker %d only; it cannot share them with the others\n"
)


class Page:
    """What Prometheus reads.

    Args:
        local: the families of this process.
        recorder: says when gauges were measured, and whether anything was since.
    """

    def __init__(self, local: LocalFamilies, recorder: Recorder) -> None:
        self._local = local
        self._recorder = recorder
        self._measured = -1
        self._everybody: Callable[[], Sequence[Figures]] | None = None
        self._cpu_seconds: Metric | None = None
        self._is_one_of_many = False
        self.outage = Outage()
        """While there is no page, because some worker's figures cannot be read."""

    def show_all(self, everybody: Callable[[], Sequence[Figures]]) -> None:
        """Show the figures of all workers from now on."""
        self._everybody = everybody

    def show_one_of_many(self) -> None:
        """Say that this is one worker's page, and nothing of the other workers is on it."""
        self._is_one_of_many = True

    def measure(self) -> bytes:
        """This process's figures, for the other workers."""
        self._measured = self._recorder.facts
        families = self._local.collect()
        found = next((family for family in families if family.name == _CPU_SECONDS), None)
        if found is not None:
            self._cpu_seconds = found
        elif self._cpu_seconds is not None:
            families.append(self._cpu_seconds)
        with short_turns:
            return to_bytes(Snapshot.of(families, self._recorder.gauge_times()))

    def changed(self) -> bool:
        """Whether there are facts that `measure` has not seen."""
        return self._recorder.facts != self._measured

    @staticmethod
    def retire(contents: Sequence[bytes]) -> bytes:
        """One content of several workers' that are dead.

        Raises:
            OSError: one of them cannot be read; without it, counters would fall.
        """
        merged = Merged()
        with short_turns:
            for content in contents:
                merged.add(_read(content, _DEAD), lives=False)
            return to_bytes(merged.retired())

    def render(self, accept: str, own: ApplicationPage | None = None) -> tuple[bytes, str]:
        """The page in the format that `accept` asks for, and its content type.

        What the application's `own` page has beside ours stands at the end, as it wrote it; then
        the format is that of its answer.

        Raises:
            OSError: some worker's figures cannot be read; without them, counters would fall.
        """
        everybody: Sequence[Figures] = ()
        families: Iterable[Metric]
        if self._everybody is None:
            families = self._local.collect()
        else:
            everybody = self._everybody()
            families = _merged(everybody)
        shown = [*self._local.completed(families)]
        rest = b"" if own is None else self._local.beside(own, shown)
        encode, content_type = choose_encoder(
            format_of(own.content_type if own is not None and rest else accept)
        )
        with short_turns:
            parts = [encode(_Only([family])).removesuffix(_EOF) for family in shown]
        parts.append(rest)
        if "openmetrics" in content_type:
            parts.append(_EOF)  # that format knows no comments
        else:
            stale = (figures.worker for figures in everybody if figures.stale)
            parts += [_STALE % worker.partition("-")[0].encode() for worker in stale]
            parts += [_HIDDEN % name.encode() for name in sorted(self._local.hidden)]
            if self._is_one_of_many:
                parts.append(_ALONE % os.getpid())
        return b"".join(parts), content_type


class _Only(CollectorRegistry):
    """A registry of the families given."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__(auto_describe=False)
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _merged(everybody: Iterable[Figures]) -> Iterator[Metric]:
    merged = Merged()
    with short_turns:
        for figures in everybody:
            if figures.content is not None:
                snapshot = _read(figures.content, f"worker {figures.worker.partition('-')[0]}")
                merged.add(snapshot, figures.worker, lives=figures.lives)
    return merged.families()


def _read(content: bytes, whose: str) -> Snapshot:
    try:
        return from_bytes(content)
    except ValueError as error:
        message = f"the figures of {whose} cannot be read: {error}"
        raise OSError(message) from error
