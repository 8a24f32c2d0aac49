"""The metrics of this process: its families as tables, and the changes in them as bytes."""

from __future__ import annotations

import math
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from otel_coach.core.forks import in_each_child
from otel_coach.prometheus.increments import TimedGauges, increments
from otel_coach.prometheus.merge import fold
from otel_coach.prometheus.snapshot import Snapshot, to_bytes
from otel_coach.prometheus.table import LocalTables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_coach.metrics.catalogue import Metric
    from otel_coach.metrics.recorder import Recorder
    from otel_coach.prometheus.families import LocalFamilies
    from otel_coach.prometheus.table import Table

_PAUSE_RATIO: Final = 400
"""The pause before a measurement without a scrape, as a multiple of the last one's duration."""
_MIN_PAUSE: Final = 0.8
"""The minimum of that pause, in seconds."""
_MAX_AGE: Final = 1.0
"""Seconds by which the process's memory and CPU time on the page may be out of date."""


class LocalMetrics:
    """Measures this process: for its own page, and for all workers, as a `MetricsSource`.

    Args:
        families: the families of this process.
        recorder: tells when gauges were measured, and whether anything was recorded since.
    """

    def __init__(self, families: LocalFamilies, recorder: Recorder) -> None:
        self.families = families
        self._recorder = recorder
        self._tables = LocalTables()
        self._gauges = TimedGauges()
        self._measuring = threading.Lock()
        self._measurements, self._measured_at = (-1, -1), -math.inf
        self._observed: Mapping[Metric, Mapping[tuple[str, ...], float]] = {}
        self._due = 0.0
        in_each_child(self._forked)

    def _forked(self) -> None:
        # A thread that only the parent has may have held the lock, with its work half done.
        self._measuring = threading.Lock()
        self._tables = LocalTables()
        self.families.forget()

    def tables(self) -> Sequence[Table]:
        """Returns the current families.

        Raises:
            OSError: the application has shut otel-coach's meter provider down.
        """
        with self._measuring:
            self._bring_up_to_date()
            return [*self._tables]

    def keep_increments(self) -> None:
        """Starts to record the increments of counters and histograms, for `increments`."""
        self._recorder.keep_increments()

    def measure(self, *, whole: bool) -> bytes:
        """Returns what changed since the last call, or everything if `whole`, as a snapshot.

        Raises:
            OSError: the application has shut otel-coach's meter provider down.
        """
        with self._measuring:
            if not whole and self._is_unchanged():
                return b""
            began = monotonic()
            changed = self._bring_up_to_date()
            content = to_bytes(self._tables.all() if whole else changed)
            self._measured_at = monotonic()
            self._due = self._measured_at + max(
                _MIN_PAUSE, _PAUSE_RATIO * (self._measured_at - began)
            )
            return content

    def changed(self) -> bool:
        """Whether a measurement is due: metrics may have changed that only a measurement shows."""
        if monotonic() < self._due or not self.families.has_others:
            return False
        return self._measurements != self._measured() or self.families.change_unnoticed

    def increments(self) -> bytes:
        """Returns the increments since the last measurement or call, and new values of gauges.

        The result is empty if there are none.
        """
        taken = self._recorder.take_increments()
        parts = [*increments(taken)] if taken else []
        times = self._recorder.gauge_times()
        for metric, values in self._recorder.gauges().items():
            if (at := times.get(metric.prometheus_name)) is not None:
                parts.extend(self._gauges.changed(metric, values, at))
        return to_bytes(Snapshot(parts)) if parts else b""

    @staticmethod
    def fold(contents: Sequence[bytes]) -> bytes:
        """Merges the snapshots of several ended workers; the first may be an earlier result.

        Raises:
            OSError: one of the snapshots cannot be read.
        """
        return fold(contents)

    def _measured(self) -> tuple[int, int]:
        """Returns how often otel-coach, and how often others, have measured something."""
        return self._recorder.measurements, self.families.measurements

    def _is_unchanged(self) -> bool:
        """Whether a measurement would give the same result as the last, except memory and CPU time.

        Many scrapers at the same time then cost little more than one.
        """
        return (
            monotonic() < self._measured_at + _MAX_AGE
            and self._measurements == self._measured()
            and not self._recorder.about_to_record
            and self._recorder.gauges() == self._observed
            and not self.families.has_others
        )

    def _bring_up_to_date(self) -> Snapshot:
        recorder = self._recorder
        self._measurements, self._observed = self._measured(), recorder.gauges()
        try:
            families = self.families.collect()
            times = recorder.gauge_times()
            return self._tables.bring_up_to_date(families, self.families.partial, times)
        except BaseException:
            self.families.forget()  # changes that `collect` returned may not be in the tables
            raise
