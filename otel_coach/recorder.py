"""The one place where a measurement is made.

Instrumentors hand over finished facts; nothing of the SDK runs until they are settled, many at a
time: one by one, each would find the SDK's code cold in the processor's caches, at five times the
cost. It also keeps the SDK's locks out of two places where they would hurt: code that runs per
chunk, and callbacks that the garbage collector makes in the middle of other code, perhaps the SDK's
own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import contextmanager, suppress
from itertools import repeat
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry.metrics import Observation

from otel_coach.aggregation import NOWHERE, Aggregation, Increments, attributes
from otel_coach.alarm import Alarm
from otel_coach.budgets import Budgets, overflow_text
from otel_coach.catalogue import CATALOGUE, ERRORS, LABEL_OVERFLOW, Kind, Metric
from otel_coach.forks import in_each_child
from otel_coach.garbage import Collections
from otel_coach.guards import guarded, is_the_hosts, raised_at, swallowed, uncounted
from otel_coach.vocabulary import ERROR_TYPE, OTHER, STATUS, USUAL_STATUSES, fault_type

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Meter

    from otel_coach.budgets import ClaimLog

    _Values = Callable[[], Mapping[tuple[object, ...], float]]

_logger = logging.getLogger("otel_coach")

_MOST_LOGGED_FAULTS: Final = 100
_LONGEST_WAIT: Final = 0.05
_ENOUGH: Final = 100
"""So many facts are settled where the last one came: some 0.2 ms of work, 1 ms with spans."""
_WIDTH: Final = 4
"""Of a fact, in the queue."""
_LONGEST_PENDING: Final = 0.25
"""Seconds that fewer facts may wait for a thread to settle them."""
_Subject = TypeVar("_Subject")
_Known = TypeVar("_Known")


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
        self._alarm = Alarm(self._settle_now, _LONGEST_PENDING, "otel-coach-settle", self.fault)
        self._collections = Collections()
        self._logged_faults: set[str] = set()
        self._logged_overflows: set[str] = set()
        self._instruments: dict[Metric, Callable[..., None]] = {}
        self._aggregation = Aggregation(self._instruments, batch)
        self._settled = 0
        self.about_to_record: set[object] = set()
        """Who is going to record what has happened by now: `settle_all` waits for them."""
        self._observed: dict[Metric, _Values] = {}
        self._times: dict[Metric, _Values] = {}
        """When gauges were measured, where the latest counts."""
        self.reserve(STATUS, USUAL_STATUSES)
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
        values: _Values,
        times: _Values | None = None,
    ) -> None:
        """Ask `values` for a gauge's value by labels each time that it is collected.

        Values whose labels become the same past their budget add up. `times` says when each was
        measured, where that matters among several processes: by `time.monotonic`, which all of a
        machine have in common, and which nobody sets.
        """
        self._observed[metric] = values
        if times is not None:
            self._times[metric] = times

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            sums: Mapping[tuple[str, ...], float] = {}
            try:
                sums = self._added_up(metric, values)
            except BaseException as raised:  # a scrape goes on without this gauge
                if not swallowed(self, raised, metric.name):
                    raise
            return [
                Observation(value, attributes(metric, labels)) for labels, value in sums.items()
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

    def gauges(self) -> Mapping[Metric, Mapping[tuple[str, ...], float]]:
        """The values of gauges, by their label values."""
        return {metric: self._added_up(metric, of) for metric, of in self._observed.items()}

    def _added_up(self, metric: Metric, values: _Values) -> Mapping[tuple[str, ...], float]:
        sums: dict[tuple[str, ...], float] = {}
        for labels, value in values().items():
            bounded = self._bounded(metric, labels)
            sums[bounded] = sums.get(bounded, 0) + value
        return sums

    def keep_increments(self) -> None:
        """Keep by how much counters and histograms rise, for `take_increments`."""
        with self._settling:
            self._aggregation.increments = Increments()

    def take_increments(self) -> Increments | None:
        """What was handed to the API since the last call, or since it was `settled`."""
        with self._settling:
            taken = self._aggregation.increments
            if taken:
                self._aggregation.increments = Increments()
            return taken

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
        """Hand everything recorded before this call to the API, waiting for who is at it."""
        with self.settled():
            pass

    @contextmanager
    def settled(self) -> Generator[None]:
        """While this lasts, the API has everything recorded before it, and gets nothing more.

        Who is about to record is waited for only a moment: a slow client may hold an answer's
        last piece for long.
        """
        deadline = monotonic() + _LONGEST_WAIT
        waited_for = set(self.about_to_record)
        while waited_for & self.about_to_record and monotonic() < deadline:
            sleep(0.001)
        with self._settling:
            self._empty(hands_on=True)
            was_settling, self._is_settling = self._is_settling, True
            try:
                yield
            finally:
                self._is_settling = was_settling
        if self._pending:  # whoever wanted to hand it on meanwhile gave up
            self.settle()

    @contextmanager
    def measured(self) -> Generator[None]:
        """As `settled`, for who reads what the API has: what rises from now on is not in it."""
        with self.settled():
            if self._aggregation.increments:
                self._aggregation.increments = Increments()
            yield

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
                    if not hands_on or not self._aggregation:
                        return
                    self._aggregation.hand_on()
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
                self._aggregation.add((what, self._bounded(what, other)), one, context)
            else:
                what(one, other)
            if not pending:
                return

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
        together = tuple(self._budgets.together(metric.name, metric.labels, single, is_ours=True))
        # Only what has a place is remembered, so that this stays as small as the budgets.
        if OTHER not in together and all(type(label) is str for label in labels):
            self._known[metric, labels] = together
        return together

    def _overflowed(self, label: str) -> None:
        """A value, a combination or an instrument was one too many."""
        self.record(LABEL_OVERFLOW, 1, (label,))
        if label not in self._logged_overflows:
            self._logged_overflows.add(label)
            _logger.warning("otel-coach: %s", overflow_text(label))

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
        self._aggregation.clear()
        self._alarm.forked()
        self._collections.clear()
        self._budgets.forked()
