"""Records measurements; only the recorder and its parts call OpenTelemetry's instruments.

Instrumentors record finished measurements. These reach the SDK only when they are flushed, many at
a time: if the SDK were called for each, its code would be cold in the processor's caches, and a
call would cost five times as much. This also keeps the SDK's locks out of two places where they do
harm: code that runs for each chunk of a stream, and finalisers, which the garbage collector may run
in the middle of other code, even of the SDK's own.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, TypeVar

from otel_coach.core.forks import in_each_child
from otel_coach.core.garbage import Collections
from otel_coach.core.guard import belongs_to_host, guarded, uncounted
from otel_coach.metrics.aggregation import NO_CONTEXT, Aggregation, Increments
from otel_coach.metrics.cardinality import BoundedLabels, Budgets
from otel_coach.metrics.catalogue import CATALOGUE, ERRORS, InstrumentKind, Metric
from otel_coach.metrics.delayed_call import DelayedCall
from otel_coach.metrics.fault_log import FaultLog
from otel_coach.metrics.gauges import Gauges
from otel_coach.metrics.labels import ERROR_TYPE, STATUS, USUAL_STATUSES, fault_type

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

    from otel_coach.metrics.cardinality import ClaimLog
    from otel_coach.metrics.gauges import Values

_MAX_WAIT: Final = 0.05
_MAX_COLLECTION: Final = 5.0
_ENOUGH: Final = 100
"""From this many queued measurements on, the thread that calls `flush` adds them up itself: some
0.2 ms of work, 1 ms with spans."""
_MAX_PENDING: Final = 1.0
"""Seconds after which the background thread adds up what is queued. Each time that it wakes costs
some 0.2 ms: its code, and then the application's again, are cold in the processor's caches."""
COLLECTION_SHARE: Final = 0.1
"""The share of the timeout of a flush or a shutdown that is spent, at most, on waiting for a
collection of metrics that is already under way and may hang."""
MAX_UNEMITTED: Final = 5.0
"""When the background thread wakes, which only measurements make it do, it also emits the sums if
the last emission was so many seconds ago, or more."""
_Subject = TypeVar("_Subject")
_Known = TypeVar("_Known")


class Recorder:
    """Queues finished measurements and emits them to the OpenTelemetry API at safe moments.

    `record`, `later` and `fault` append to a queue (`fault` may also log), so any thread may call
    them at any moment, even in a finaliser. Instrumentors call `flush` when something is finished,
    for example a request. `flush` adds up the queue by series if there is enough in it. A moment
    later, a background thread adds up the rest, and from time to time emits the sums. The page is
    collected within `measured`, which emits all first.

    Args:
        meter: makes the instruments.
        budgets: the budgets of label values. The recorder uses their queue, and records what is in
            it already.
        batch: combines the values of a bucket into one measurement; its second argument is the
            value that an exemplar may show. None if the instruments take single measurements only.
        max_unemitted: when the background thread wakes, it emits the sums if the last emission was
            so many seconds ago, or more.
    """

    def __init__(
        self,
        meter: Meter,
        budgets: Budgets | None = None,
        batch: Callable[[Sequence[float], float], float] | None = None,
        max_unemitted: float = MAX_UNEMITTED,
    ) -> None:
        self._budgets = budgets or Budgets()
        self._queue = self._budgets.queue
        self._faults = FaultLog(self._queue)
        self._bounded = BoundedLabels(self._budgets)
        self._gauges = Gauges(meter, self._bounded, self)
        self._flushing = threading.RLock()
        """Reentrant, because a finaliser may run in the thread that holds it, and flush as well."""
        self._is_flushing = False
        """Whether a flush runs; a finaliser's flush then does nothing."""
        self._collecting = threading.RLock()
        """Held while a block of `flushed` is open, which lasts as long as the callbacks of the
        application's own gauges. `_flushing` is not, so that the queue stays short meanwhile."""
        self._open_blocks = 0
        """Blocks of `flushed` that are open; nothing is emitted while there is one."""
        self._collector = 0
        """The thread that opened them, in which a finaliser's flush does nothing either."""
        self._delayed = DelayedCall(
            self._flush_delayed, _MAX_PENDING, "otel-coach-flush", self.fault
        )
        self._max_unemitted = max_unemitted
        self._emitted = -math.inf
        """When the sums were last emitted, by `time.monotonic`."""
        self._collections = Collections()
        self._instruments: dict[Metric, Callable[..., None]] = {}
        self._aggregation = Aggregation(self._instruments, batch)
        self.about_to_record: set[object] = set()
        """Objects that will soon record what has already happened; `flushed` waits for them."""
        self.reserve(STATUS, USUAL_STATUSES)
        for metric in CATALOGUE:
            self._create(meter, metric)
        self._initial_zeros = self.measurements
        in_each_child(self._forked)

    @property
    def recorder(self) -> Recorder:
        """The recorder itself, so that its own methods can be `guarded`."""
        return self

    def record(
        self,
        metric: Metric,
        value: float,
        labels: tuple[object, ...] = (),
        context: Context | None = None,
    ) -> None:
        """Records `value` under `labels`, given in the order of `metric.labels`.

        `context` contains the span that a histogram's exemplar may name.
        """
        # `MeasurementQueue.put`, inlined to save a stack frame.
        self._queue.append((metric, value, labels, context))

    def later(
        self, work: Callable[[_Subject, _Known], None], subject: _Subject, known: _Known
    ) -> None:
        """Defers the call `work(subject, known)` to the next flush.

        `work` may record measurements itself, and end spans.
        """
        self._queue.append((work, subject, known, None))

    def observe(self, metric: Metric, values: Values, times: Values | None = None) -> None:
        """Makes the gauge `metric`: at each collection, `values` returns its values by labels.

        Values whose labels become the same, because they exceed a budget, are combined by
        `Metric.merge`: SUM adds them, MAX takes the largest, and LATEST, which only the state of a
        dependency has, the smallest. `times`, if given, returns when each value was measured, to
        compare the values of several processes. The times are those of `time.monotonic`, which all
        processes of a machine share and which cannot be set.
        """
        self._gauges.observe(metric, values, times)

    def gauge_times(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Returns when gauges were measured, by their Prometheus name and label values."""
        return self._gauges.times()

    def gauges(self) -> Mapping[Metric, Mapping[tuple[str, ...], float]]:
        """Returns the current values of gauges, by metric and label values."""
        return self._gauges.values()

    def keep_increments(self) -> None:
        """Starts to keep by how much counters and histograms rise, for `take_increments`."""
        with self._flushing:
            self._aggregation.increments = Increments()

    def take_increments(self) -> Increments | None:
        """Returns what was recorded since the last call or the last use of `measured`.

        The result is None if `keep_increments` was not called.
        """
        if self._queue or self._aggregation:  # sums are increments only once they are emitted
            self.flush_all()
        with self._flushing:
            taken = self._aggregation.increments
            if taken is not None:
                # Also an empty one is replaced: what other threads add now is in the next result.
                self._aggregation.increments = Increments()
            return taken

    def reserve(self, label: str, values: Iterable[object]) -> None:
        """Reserves slots for values that the application declares, before other values arrive."""
        self._budgets.reserve(label, values)

    def share_budgets(self, log: ClaimLog) -> None:
        """Shares the budgets with other processes: a slot goes to the first claim in `log`."""
        self._budgets.share(log)
        self._bounded.forget()  # some may have lost their slots

    @property
    def measurements(self) -> int:
        """How many measurements have been recorded so far."""
        return self._queue.total

    @property
    def has_measured(self) -> bool:
        """Whether anything was recorded besides the initial zeros."""
        return self.measurements > self._initial_zeros

    def fault(self, fault: BaseException, place: str) -> None:
        """Counts a fault inside otel-coach, and logs the first of its kind at `place`."""
        self._faults.fault(fault, place)

    def flush(self) -> None:
        """Makes what was recorded be added up soon, or now if the queue is long enough.

        The API gets the sums when the background thread finds that `max_unemitted` is over, or in
        the next `flushed`.

        Inside the garbage collector it only wakes the background thread, because the interrupted
        code may hold locks.
        """
        is_enough = len(self._queue) >= _ENOUGH
        if not is_enough and self._delayed.is_set:
            return
        is_safe = not self._collections.is_running
        will_be_emitted = self._delayed.is_set or self._delayed.set(may_start=is_safe)
        if not is_safe:
            return
        if is_enough or not will_be_emitted:
            self._flush_now(emits=not will_be_emitted)

    def _flush_delayed(self) -> None:
        self._flush_now(emits=monotonic() - self._emitted >= self._max_unemitted)

    @guarded
    def _flush_now(self, *, emits: bool = True) -> None:
        if self._open_blocks and self._collector == threading.get_ident():
            return
        flushing = self._flushing
        # Assumed until `acquire` has returned: a signal handler may raise after the lock was taken,
        # before the assignment.
        is_held = True
        try:
            is_held = flushing.acquire(blocking=False)
            # A finaliser may call this in the middle of a flush of the same thread.
            if is_held and not self._is_flushing:
                self._empty(emits=emits and not self._open_blocks)
        finally:
            if is_held:
                try:  # noqa: SIM105 - release first: a signal could interrupt making a `suppress`
                    flushing.release()
                except RuntimeError:  # it was interrupted, and another thread has the lock
                    pass

    def flush_all(self, max_wait: float | None = None) -> None:
        """Emits everything recorded before this call.

        It waits up to `max_wait` seconds (5 by default) for another thread that has a block of
        `flushed` open: a callback of the application's may hang there. What was recorded is then
        emitted after the block; spans end before the wait.
        """
        self._wait_for_announced()
        is_free = self._collecting.acquire(blocking=False)
        if not is_free:
            with self._flushing:
                self._empty(emits=False)
            is_free = self._collecting.acquire(
                timeout=_MAX_COLLECTION if max_wait is None else max_wait
            )
        try:
            with self._flushing:
                self._empty(emits=is_free and not self._open_blocks)
        finally:
            if is_free:
                self._collecting.release()

    @contextmanager
    def flushed(self, *, restarts_increments: bool = False) -> Generator[None]:
        """Inside the block, the API has everything recorded before it, and gets nothing more.

        There are two exceptions: a fault of otel-coach's is counted at once; and if the collection
        hangs so long that more than a thousand combined values wait, the oldest are emitted.
        """
        self._wait_for_announced()
        with self._collecting:
            with self._flushing:
                self._empty(emits=not self._open_blocks)
                if restarts_increments and self._aggregation.increments:
                    self._aggregation.increments = Increments()
                self._open_blocks += 1
                self._aggregation.is_held = True
                self._collector = threading.get_ident()
            try:
                yield
            finally:
                self._open_blocks -= 1
                self._aggregation.is_held = bool(self._open_blocks)
        if self._queue:
            self.flush()

    def measured(self) -> AbstractContextManager[None]:
        """The same as `flushed`, for a reader of the API's state; increments restart from here."""
        return self.flushed(restarts_increments=True)

    def _wait_for_announced(self) -> None:
        """Waits for the objects in `about_to_record`, but not long: a client may be slow."""
        deadline = monotonic() + _MAX_WAIT
        waited_for = set(self.about_to_record)
        while waited_for & self.about_to_record and monotonic() < deadline:
            sleep(0.001)

    def close(self, max_wait: float | None = None) -> None:
        """Flushes what is left, ends the background thread and removes the `gc` callbacks.

        `max_wait` is as for `flush_all`.
        """
        self._delayed.close()  # from now on, the thread that calls `flush` flushes everything
        self.flush_all(max_wait)
        self._collections.close()

    def _empty(self, *, emits: bool) -> None:
        while uncounted:
            self.fault(uncounted.popleft(), "code that could not report it at once")
        try:
            self._is_flushing = True
            while True:
                try:
                    self._add_all()
                    if not emits:
                        return
                    if not self._aggregation:
                        self._emitted = monotonic()
                        return
                    self._aggregation.emit()
                except BaseException as raised:  # one bad measurement must not stop the others
                    if belongs_to_host(raised):
                        raise
                    # Counted here, not through the queue, which then might never become empty.
                    self._faults.log(raised, "Recorder.flush")
                    with suppress(Exception):
                        self._instruments[ERRORS](1, {ERROR_TYPE: fault_type(raised)}, NO_CONTEXT)
        finally:
            self._is_flushing = False

    def _add_all(self) -> None:
        add, bounded = self._aggregation.add, self._bounded.of
        for metric_or_work, first, second, context in self._queue.take():
            if type(metric_or_work) is Metric:
                add((metric_or_work, bounded(metric_or_work, second)), first, context)
            else:
                metric_or_work(first, second)

    def _create(self, meter: Meter, metric: Metric) -> None:
        name, unit, text = metric.name, metric.unit, metric.help
        if metric.kind is InstrumentKind.COUNTER:
            self._instruments[metric] = meter.create_counter(name, unit, text).add
        elif metric.kind is InstrumentKind.HISTOGRAM:
            self._instruments[metric] = meter.create_histogram(
                name, unit, text, explicit_bucket_boundaries_advisory=list(metric.buckets)
            ).record
        for values in metric.zeros:
            self.record(metric, 0, values)

    def _forked(self) -> None:
        # The thread that may have held the lock does not exist in a forked child. What it had not
        # finished is recorded by the parent.
        self._flushing = threading.RLock()
        self._is_flushing = False
        self._collecting = threading.RLock()
        self._open_blocks = 0
        self._aggregation.is_held = False
        self.about_to_record.clear()
        self._queue.clear()
        self._aggregation.clear()
        self._delayed.forked()
        self._collections.clear()
        self._budgets.forked()
