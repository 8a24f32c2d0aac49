"""The page: this process's families where it serves alone, else those of all workers."""

from __future__ import annotations

import math
import os
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import choose_encoder

from otel_coach.exposition.encoding import EOF, Encoded
from otel_coach.exposition.fleet import Fleet
from otel_coach.exposition.increments import TimedGauges, increments
from otel_coach.exposition.merging import RETIRED, Merged
from otel_coach.exposition.negotiation import format_of
from otel_coach.exposition.snapshot import Snapshot, from_bytes, to_bytes
from otel_coach.exposition.table import LocalTables
from otel_coach.exposition.turns import short_turns
from otel_coach.forks import in_each_child
from otel_coach.workers.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_coach.catalogue import Metric
    from otel_coach.exposition.application_page import ApplicationPage
    from otel_coach.exposition.families import LocalFamilies
    from otel_coach.exposition.fleet import Everybody
    from otel_coach.exposition.table import Table
    from otel_coach.recorder import Recorder

_HIDDEN: Final = b"# otel-coach: another family %b of this process is not shown; rename it\n"
_STALE: Final = (
    b"# otel-coach: worker %b does not answer or cannot write; these are its last figures\n"
)
_ALONE: Final = (
    b"# otel-coach: these are the figures of worker %d only; it cannot share them with the others\n"
)
_SHARE: Final = 400
"""Figures that only a measurement tells are measured unasked for one such part of the time."""
_BETWEEN_TWO: Final = 0.8
"""Seconds, at least, between two such measurements."""
_LONGEST_AGE: Final = 1.0
"""Seconds that the memory and the processor time of a process on the page may be old."""
_IDLE: Final = 120.0
"""Seconds without a scrape, after which a worker keeps nothing for the next one."""


class Page:
    """What Prometheus reads.

    Args:
        local: the families of this process.
        recorder: says when gauges were measured, and whether anything was since.
    """

    def __init__(self, local: LocalFamilies, recorder: Recorder) -> None:
        self._local = local
        self._recorder = recorder
        self._tables = LocalTables()
        self._gauges = TimedGauges()
        self._measuring = threading.Lock()
        self._measured, self._measured_at = -1, -math.inf
        self._observed: Mapping[Metric, Mapping[tuple[str, ...], float]] = {}
        self._due = 0.0
        self._fleet: Fleet | None = None
        self._rendering = threading.Lock()
        self._encoded: dict[str, Encoded] = {}
        """By content type."""
        self._rendered = 0.0
        self._is_one_of_many = False
        self.outage = Outage()
        """While there is no page, because some worker's figures cannot be read."""
        in_each_child(self._forked)

    def _forked(self) -> None:
        # A thread that is not in the child may have held the locks, and left its work half done.
        self._measuring, self._rendering = threading.Lock(), threading.Lock()
        self._tables = LocalTables()
        self._local.forget()
        self._encoded.clear()
        if self._fleet is not None:
            self._fleet.forget()

    def show_all(self, everybody: Everybody) -> None:
        """Show the figures of all workers from now on."""
        self._fleet = Fleet(everybody)
        self._recorder.keep_increments()

    def show_one_of_many(self) -> None:
        """Say that this is one worker's page, and nothing of the other workers is on it."""
        self._is_one_of_many = True

    def measure(self, *, whole: bool) -> bytes:
        """For the other workers: what changed here since the last call, or the `whole`.

        Raises:
            OSError: the application has shut our meter provider down.
        """
        with self._measuring:
            if not whole and self._is_as_it_was():
                return b""
            began = monotonic()
            changed = self._bring_up_to_date()
            with short_turns:
                content = to_bytes(self._tables.all() if whole else changed)
            self._measured_at = monotonic()
            self._due = self._measured_at + max(_BETWEEN_TWO, _SHARE * (self._measured_at - began))
            return content

    def _is_as_it_was(self) -> bool:
        """Whether a measurement would tell what the last one did, but for the process's own state.

        So that many scrapers at once cost little more than one.
        """
        return (
            monotonic() < self._measured_at + _LONGEST_AGE
            and self._recorder.facts == self._measured
            and not self._recorder.about_to_record
            and self._recorder.gauges() == self._observed
            and not self._local.has_others
        )

    def changed(self) -> bool:
        """Whether figures may have changed that only a measurement tells, and one is due."""
        return (
            monotonic() >= self._due
            and self._recorder.facts != self._measured
            and self._local.has_others
        )

    def increments(self) -> bytes:
        """What was counted since it was measured, or asked for by this, last; empty if nothing."""
        self._forget_if_idle()
        taken = self._recorder.take_increments()
        parts = [*increments(taken)] if taken else []
        times = self._recorder.gauge_times()
        for metric, values in self._recorder.gauges().items():
            if (at := times.get(metric.prometheus_name)) is not None:
                parts.extend(self._gauges.changed(metric, values, at))
        return to_bytes(Snapshot(parts)) if parts else b""

    @staticmethod
    def retire(contents: Sequence[bytes]) -> bytes:
        """One content of several workers' that are dead.

        Raises:
            OSError: one of them cannot be read; without it, counters would fall.
        """
        merged = Merged()
        with short_turns:
            for number, content in enumerate(contents):
                try:
                    snapshots, _ = from_bytes(content)
                except ValueError as error:
                    message = f"the figures of a worker that has ended cannot be read: {error}"
                    raise OSError(message) from error
                for snapshot in snapshots:
                    merged.add(snapshot, f"{RETIRED} {number}")
            return to_bytes(merged.retired())

    def render(self, accept: str, own: ApplicationPage | None = None) -> tuple[bytes, str]:
        """The page in the format that `accept` asks for, and its content type.

        What the application's `own` page has beside ours stands at the end, as it wrote it; then
        the format is that of its answer.

        Raises:
            OSError: some worker's figures cannot be read; without them, counters would fall.
        """
        with self._rendering:
            self._rendered = monotonic()
            tables, stale = self._all_tables()
            ours = [table.about for table in tables]
            others = [*self._local.completing(ours)]
            rest = b"" if own is None else self._local.beside(own, [*ours, *others])
            encode, content_type = choose_encoder(
                format_of(own.content_type if own is not None and rest else accept)
            )
            encoded = self._encoded.setdefault(content_type, Encoded(encode))
            with short_turns:
                parts = [encoded.table(table) for table in tables]
                parts.extend(encoded.family(family) for family in others)
        parts.append(rest)
        if "openmetrics" in content_type:
            parts.append(EOF)  # that format knows no comments
        else:
            parts.extend(_STALE % worker.partition("-")[0].encode() for worker in stale)
            parts.extend(_HIDDEN % name.encode() for name in sorted(self._local.hidden))
            if self._is_one_of_many:
                parts.append(_ALONE % os.getpid())
        return b"".join(parts), content_type

    def _all_tables(self) -> tuple[Sequence[Table], Iterable[str]]:
        if self._fleet is None:
            with self._measuring:
                self._bring_up_to_date()
                return [*self._tables], ()
        tables, stale = self._fleet.tables()
        with short_turns:
            return [*tables], stale

    def _bring_up_to_date(self) -> Snapshot:
        self._measured, self._observed = self._recorder.facts, self._recorder.gauges()
        try:
            families = self._local.collect()
            times = self._recorder.gauge_times()
            with short_turns:
                return self._tables.bring_up_to_date(families, self._local.partial, times)
        except BaseException:
            self._local.forget()  # what it has handed over may not be in the tables
            raise

    def _forget_if_idle(self) -> None:
        is_idle = self._rendered and monotonic() - self._rendered > _IDLE
        if is_idle and self._rendering.acquire(blocking=False):
            try:
                self._rendered = 0.0
                self._encoded.clear()
                if self._fleet is not None:
                    self._fleet.forget()
            finally:
                self._rendering.release()
