"""The one place where a measurement is made.

Instrumentors hand over finished facts; nothing of the SDK runs until they are settled, many at a
time: one by one, each would find the SDK's code cold in the processor's caches, at five times the
cost. It also keeps the SDK's locks out of two places where they would hurt: code that runs per
chunk, and callbacks that the garbage collector makes in the middle of other code, perhaps the SDK's
own.
"""

from __future__ import annotations

import logging
import math
import threading
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from itertools import repeat
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry.context import Context, create_key
from opentelemetry.metrics import Observation

from otel_coach.alarm import Alarm
from otel_coach.budgets import Budgets
from otel_coach.catalogue import CATALOGUE, ERRORS, LABEL_OVERFLOW, Kind, Metric
from otel_coach.forks import in_each_child
from otel_coach.garbage import Collections
from otel_coach.guards import guarded, is_the_hosts, raised_at, swallowed, uncounted
from otel_coach.tracing import is_sampled
from otel_coach.vocabulary import ERROR_TYPE, INSTRUMENT, LABEL_SET, OTHER, fault_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter

    from otel_coach.budgets import ClaimLog

_logger = logging.getLogger("otel_coach")

_MOST_LOGGED_FAULTS: Final = 100
_OVERFLOWS: Final = {
    LABEL_SET: "a metric has more combinations of label values than its budget; further ones count "
    "as `other`. Raise it with OTEL_COACH_BUDGET_LABEL_SET.",
    INSTRUMENT: "there are more instruments than their budget; further ones are not measured. "
    "Raise it with OTEL_COACH_BUDGET_INSTRUMENT, or look for names made at run time.",
}
_OVERFLOW: Final = (
    "label {label} has more values than its budget, or one that is no name; they count as `other`. "
    "Raise it with OTEL_COACH_BUDGET_{LABEL}, or look for a value that changes with every request."
)
_LONGEST_WAIT: Final = 0.05
_ENOUGH: Final = 100
"""So many facts are settled where the last one came: some 0.2 ms of work, 1 ms with spans."""
_MAX_BUCKET: Final = 1000
"""So many values of a bucket are handed on at once: what waits is bounded at any rate."""
_WIDTH: Final = 4
"""Of a fact, in the queue."""
_LONGEST_PENDING: Final = 0.25
"""Seconds that fewer facts may wait for a thread to settle them."""
NOWHERE: Final = Context({create_key("otel_coach.nowhere"): True})
"""The context of what has none of its own: it must not find that of whoever settles it.

Not empty: the SDK takes the current context in the place of an empty one.
"""
_Subject = TypeVar("_Subject")
_Known = TypeVar("_Known")
_Series = tuple[Metric, tuple[str, ...]]
_Bucket = tuple[_Series, int]
"""Of a histogram."""


class Recorder:
    """Gathers finished facts and hands them to the OpenTelemetry API at safe moments.

    `record`, `later` and `fault` only append to a queue: any thread may call them at any moment,
    also a finaliser. `settle` says that something is finished: it empties the queue when there is
    enough in it, else a thread does a moment later. What the queue held is added up by series,
    and handed on by the thread. Whoever reads calls `settle_all` first.

    Args:
        meter: makes the instruments.
        budgets: of label values.
        batch: makes one measurement of several of one bucket, and the one that an exemplar may
            show; None where the instruments take them one by one only.
    """

    def __init__(
        self,
        meter: Meter,
        budgets: Budgets | None = None,
        batch: Callable[[Sequence[float], float], float] | None = None,
    ) -> None:
        self._meter = meter
        self._budgets = budgets or Budgets()
        self._budgets.on_overflow = self._overflowed
        self._known: dict[tuple[Metric, tuple[object, ...]], tuple[str, ...]] = {}
        """Labels as they count, by what they were made of, where none had to become `OTHER`."""
        self._pending: deque[Any] = deque()
        """Four things for each fact: a metric, its value, labels and context; or what is to be
        called, two arguments and None. A tuple for each would wait here, too, and whatever waits
        brings the next garbage collection closer. One `extend` of a tuple is one step, and so is
        what takes one out: an exception of a signal handler must not come between its parts."""
        self._settling = threading.RLock()
        """It knows itself who holds it, between all steps. Who does enters `_empty` once only."""
        self._is_settling = False
        self._sums: dict[_Series, float] = {}
        """What counters are to be raised by: once for each series, however often it was counted."""
        self._batch = batch
        self._gathered: dict[_Bucket, list[float]] = {}
        """What histograms are to be told, by bucket."""
        self._traced: dict[_Bucket, tuple[float, Context]] = {}
        """The last of them that a sampled span was around."""
        self._alarm = Alarm(self._settle_now, _LONGEST_PENDING, "otel-coach-settle", self.fault)
        self._collections = Collections()
        self._logged_faults: set[str] = set()
        self._logged_overflows: set[str] = set()
        self._instruments: dict[Metric, Callable[..., None]] = {}
        self._settled = 0
        self.about_to_record: set[object] = set()
        """Who is going to record what has happened by now: `settle_all` waits for them."""
        self._times: dict[Metric, Callable[[], Mapping[tuple[object, ...], float]]] = {}
        for metric in CATALOGUE:
            self._create(metric)
        self._zeros = self.facts
        in_each_child(self._restart)

    @property
    def recorder(self) -> Recorder:
        """Itself, so that its own hooks can be `guarded`."""
        return self

    def record(
        self,
        metric: Metric,
        value: float,
        labels: tuple[object, ...] = (),
        context: Context | None = None,
    ) -> None:
        """Measure `value` under `labels`, given in the order of `metric.labels`.

        `context` holds the span that an exemplar of a histogram is to name.
        """
        self._pending.extend((metric, value, labels, context))

    def later(
        self, fact: Callable[[_Subject, _Known], None], subject: _Subject, known: _Known
    ) -> None:
        """Let `fact(subject, known)` run at the next safe moment.

        It may record in its turn, and end spans.
        """
        self._pending.extend((fact, subject, known, None))

    def observe(
        self,
        metric: Metric,
        values: Callable[[], Mapping[tuple[object, ...], float]],
        times: Callable[[], Mapping[tuple[object, ...], float]] | None = None,
    ) -> None:
        """Ask `values` for a gauge's value by labels each time that it is collected.

        Values whose labels become the same past their budget add up. `times` says when each was
        measured, where that matters among several processes: by `time.monotonic`, which all of a
        machine have in common, and which nobody sets.
        """
        if times is not None:
            self._times[metric] = times

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            sums: dict[tuple[str, ...], float] = {}
            try:
                for labels, value in values().items():
                    bounded = self._bounded(metric, labels)
                    sums[bounded] = sums.get(bounded, 0) + value
            except BaseException as raised:  # a scrape goes on without this gauge
                if not swallowed(self, raised, metric.name):
                    raise
            return [
                Observation(value, _attributes(metric, labels)) for labels, value in sums.items()
            ]

        self._meter.create_observable_gauge(
            metric.name, [callback], unit=metric.unit, description=metric.help
        )

    def gauge_times(self) -> dict[str, dict[tuple[str, ...], float]]:
        """When gauges were measured, by their Prometheus name and label values."""
        return {
            metric.prometheus_name: {
                self._bounded(metric, labels): at for labels, at in times().items()
            }
            for metric, times in self._times.items()
        }

    def reserve(self, label: str, values: Iterable[object]) -> None:
        """Give values that the application declares their places before any others come."""
        self._budgets.reserve(label, values)

    def share_budgets(self, log: ClaimLog) -> None:
        """Keep the budgets together with other processes, by what `log` has first."""
        self._budgets.share(log)
        self._known.clear()  # some may have lost their places

    @property
    def facts(self) -> int:
        """How many facts there were so far."""
        return self._settled + len(self._pending) // _WIDTH

    @property
    def has_measured(self) -> bool:
        """Whether there was any fact but the zeros of the start."""
        return self.facts > self._zeros

    def fault(self, fault: BaseException, place: str) -> None:
        """Count a fault of ours; the first of its kind at a place is logged.

        The log line has no message of the exception: it could repeat what a user said.
        """
        self._log(fault, place)
        self.record(ERRORS, 1, (fault_type(fault),))

    def settle(self) -> None:
        """Let what was recorded so far reach the API soon: now if it is enough, and safe."""
        is_enough = len(self._pending) >= _ENOUGH * _WIDTH
        if not is_enough and self._alarm.is_set:
            return
        is_safe = not self._collections.is_running
        will_be_handed_on = self._alarm.is_set or self._alarm.set(may_start=is_safe)
        if not is_safe:
            return
        if is_enough or not will_be_handed_on:
            self._settle_now(hands_on=not will_be_handed_on)

    @guarded
    def _settle_now(self, *, hands_on: bool = True) -> None:
        settling = self._settling
        try:
            # It may be at it already: a finaliser in the middle of it.
            if settling.acquire(blocking=False) and not self._is_settling:
                self._empty(hands_on=hands_on)
        finally:
            try:  # noqa: SIM105 - the first step: a signal may come into the making of another
                settling.release()
            except RuntimeError:  # another thread holds it
                pass

    def settle_all(self) -> None:
        """Hand everything recorded before this call to the API, waiting for who is at it.

        Who is about to record is waited for only a moment: a slow client may hold an answer's
        last piece for long.
        """
        deadline = monotonic() + _LONGEST_WAIT
        waited_for = set(self.about_to_record)
        while waited_for & self.about_to_record and monotonic() < deadline:
            sleep(0.001)
        with self._settling:
            self._empty(hands_on=True)

    def close(self) -> None:
        """Settle what is left and leave no trace in the interpreter."""
        self._alarm.close()  # what still comes is settled at once
        self.settle_all()
        self._collections.close()

    def _empty(self, *, hands_on: bool) -> None:
        while uncounted:
            self.fault(uncounted.popleft(), "a hook at the recursion limit")
        # All four of a fact in one call of C, which no signal comes into.
        parts = map(deque.popleft, repeat(self._pending))
        facts = zip(parts, parts, parts, parts, strict=False)
        try:
            self._is_settling = True
            while True:
                try:
                    if self._pending:
                        self._take_all(facts)
                    if not hands_on or not (self._sums or self._gathered):
                        return
                    self._hand_on()
                except BaseException as raised:  # one bad fact must not stop the others
                    if is_the_hosts(raised):
                        raise
                    # Counted here and not through the queue, which might never become empty.
                    self._log(raised, "Recorder.settle")
                    with suppress(Exception):
                        self._instruments[ERRORS](1, {ERROR_TYPE: fault_type(raised)}, NOWHERE)
        finally:
            self._is_settling = False

    def _take_all(self, facts: Iterable[tuple[Any, Any, Any, Any]]) -> None:
        pending = self._pending
        for what, one, other, context in facts:
            self._settled += 1
            if type(what) is Metric:
                self._gather(what, one, other, context)
            else:
                what(one, other)
            if not pending:
                return

    def _gather(
        self, metric: Metric, value: float, labels: tuple[object, ...], context: Context | None
    ) -> None:
        """Add up by series."""
        series = metric, self._bounded(metric, labels)
        if metric.kind is Kind.COUNTER:
            self._sums[series] = self._sums.get(series, 0) + value
        elif self._batch is None or not 0 <= value < math.inf:  # the latter is the SDK's to refuse
            self._instruments[metric](value, _attributes(*series), context or NOWHERE)
        else:
            bucket = series, bisect_left(metric.buckets, value)
            gathered = self._gathered.setdefault(bucket, [])
            gathered.append(value)
            if context is not None and is_sampled(context):
                self._traced[bucket] = value, context
            if len(gathered) >= _MAX_BUCKET:
                self._hand_on_bucket(bucket, self._gathered.pop(bucket))

    def _hand_on(self) -> None:
        """Hand one series to the API."""
        if self._sums:
            series, value = self._sums.popitem()
            self._instruments[series[0]](value, _attributes(*series), NOWHERE)
        else:
            self._hand_on_bucket(*self._gathered.popitem())

    def _hand_on_bucket(self, bucket: _Bucket, gathered: list[float]) -> None:
        shown, context = self._traced.pop(bucket, (gathered[-1], NOWHERE))
        (metric, labels), _ = bucket
        value = self._batch(gathered, shown) if self._batch else shown
        self._instruments[metric](value, _attributes(metric, labels), context)

    def _log(self, fault: BaseException, place: str) -> None:
        seen = f"{place} {type(fault).__name__}"
        if seen in self._logged_faults or len(self._logged_faults) >= _MOST_LOGGED_FAULTS:
            return
        self._logged_faults.add(seen)
        _logger.warning(
            "otel-coach: %s in %s (%s) was swallowed; the application is not affected. "
            "Further ones are only counted, in %s.",
            type(fault).__name__,
            place,
            raised_at(fault),
            ERRORS.prometheus_name,
        )

    def _bounded(self, metric: Metric, labels: tuple[object, ...]) -> tuple[str, ...]:
        """The label values under which to count."""
        try:
            return self._known[metric, labels]
        except (KeyError, TypeError):  # the latter of a value that cannot be a key
            pass
        single = map(self._budgets.bounded, metric.labels, labels)
        together = tuple(self._budgets.together(metric.name, metric.labels, single))
        # Only what has a place is remembered, so that this stays as small as the budgets.
        if OTHER not in together and all(type(label) is str for label in labels):
            self._known[metric, labels] = together
        return together

    def _overflowed(self, label: str) -> None:
        """A value, a combination or an instrument was one too many."""
        self.record(LABEL_OVERFLOW, 1, (label,))
        if label not in self._logged_overflows:
            self._logged_overflows.add(label)
            text = _OVERFLOWS.get(label, _OVERFLOW).format(label=label, LABEL=label.upper())
            _logger.warning("otel-coach: %s", text)

    def _create(self, metric: Metric) -> None:
        name, unit, text = metric.name, metric.unit, metric.help
        if metric.kind is Kind.COUNTER:
            add = self._meter.create_counter(name, unit, text).add
            self._instruments[metric] = add
        elif metric.kind is Kind.HISTOGRAM:
            self._instruments[metric] = self._meter.create_histogram(
                name, unit, text, explicit_bucket_boundaries_advisory=list(metric.buckets)
            ).record
        for values in metric.zeros:
            self.record(metric, 0, values)

    def _restart(self) -> None:
        # A forked child inherits neither the thread that held the lock nor its unfinished work.
        self._settling = threading.RLock()
        self._is_settling = False
        self._pending.clear()
        self._sums.clear()
        self._gathered.clear()
        self._traced.clear()
        self._alarm.forked()
        self._collections.clear()
        self._budgets.forked()


def _attributes(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))
