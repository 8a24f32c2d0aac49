"""The page: this process's families where it serves alone, else those of all workers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from otel_coach.exposition.merging import Merged
from otel_coach.exposition.negotiation import accepted
from otel_coach.exposition.snapshot import Snapshot, from_bytes, to_bytes
from otel_coach.exposition.turns import short_turns
from otel_coach.workers.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from otel_coach.exposition.families import LocalFamilies
    from otel_coach.recorder import Recorder
    from otel_coach.workers.group import Figures

_logger = logging.getLogger("otel_coach")

_CPU_SECONDS: Final = "process_cpu_seconds"
"""A counter that prometheus_client leaves out where it has no descriptor to read it."""
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
_KNOWN_VERSIONS: Final = frozenset({None, "0.0.1", "1.0.0"})
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
        """One content of several workers' that are dead."""
        merged = Merged()
        with short_turns:
            for content in contents:
                if (snapshot := _read(content)) is not None:
                    merged.add(snapshot, lives=False)
            return to_bytes(merged.retired())

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page in the format that `accept` asks for, and its content type.

        Raises:
            OSError: some worker's figures cannot be read; without them, counters would fall.
        """
        encode, content_type = choose_encoder(_understood(accept))
        everybody: Sequence[Figures] = ()
        families: Iterable[Metric]
        if self._everybody is None:
            families = self._local.collect()
        else:
            everybody = self._everybody()
            families = _merged(everybody)
        with short_turns:
            parts = [
                encode(_Only([family])).removesuffix(_EOF)
                for family in self._local.with_shared(families)
            ]
        if "openmetrics" in content_type:
            parts.append(_EOF)  # that format knows no comments
        else:
            stale = (figures.worker for figures in everybody if figures.stale)
            parts += [_STALE % worker.partition("-")[0].encode() for worker in stale]
            parts += [_HIDDEN % name.encode() for name in sorted(self._local.hidden)]
            if self._is_one_of_many:
                parts.append(_ALONE % os.getpid())
        return b"".join(parts), content_type


def _understood(accept: str) -> str:
    """What of `accept` the page can be: OpenMetrics where it is asked for, else the text format.

    prometheus_client repeats versions that it does not write, and escapes names that are valid.
    """
    asked = any(
        name == "application/openmetrics-text" and parameters.get("version") in _KNOWN_VERSIONS
        for name, parameters in accepted(accept)
    )
    return _OPENMETRICS if asked else ""


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
            if (snapshot := _read(figures.content)) is not None:
                merged.add(snapshot, figures.worker, lives=figures.lives)
    return merged.families()


def _read(content: bytes | None) -> Snapshot | None:
    if content is None:
        return None
    try:
        return from_bytes(content)
    except ValueError as error:
        _logger.warning("otel-coach: a worker's figures cannot be read (%s); left out", error)
        return None
