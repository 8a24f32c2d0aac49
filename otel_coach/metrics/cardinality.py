"""Cardinality budgets: which label values are counted under their own name, and how many.

A budget's slots go to the values that the operator pins, then to those that the application
declares (its routes, its dependencies), then to others in the order in which they arrive. The first
two kinds are known before any request, so junk that arrives early cannot take their slots. In the
budget for combinations of values, junk could take all slots; so each method that a declared route
answers also has slots of its own.
"""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from otel_coach.core.copies import items_of
from otel_coach.metrics.catalogue import LABEL_OVERFLOW, Metric
from otel_coach.metrics.labels import (
    DEFAULT_SIZES,
    ENDPOINT,
    ERROR_TYPE,
    INSTRUMENT,
    INSTRUMENT_LINES,
    LABEL_SET,
    LABEL_SETS_PER_ENDPOINT,
    LABEL_SETS_PER_METHOD,
    METHOD,
    MODEL,
    NO_ERROR,
    OTHER,
    OTHER_METHOD,
    OUR_OWN_VALUES,
    STATUS,
    is_model_address,
    label_value,
)
from otel_coach.metrics.measurement_queue import MeasurementQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_logger = logging.getLogger("otel_coach")

OWN_INSTRUMENTS: Final = ""
"""Owner of the label budgets that otel-coach's own instruments share, and of the limits for all
other instruments together. All other budgets have an instrument's name as their owner."""

KEPT: Final = frozenset({STATUS, METHOD})
"""Labels whose value is kept in a combination past the limit, because they have few values."""
_SEPARATOR: Final = "\x1f"
_ROUTES: Final = "routes"
"""Name of the limit for the combinations of all methods of all declared routes together. The limit
for one method of a route has this name followed by a status class, the method and the route."""

_MAX_READ_AGAIN: Final = 10_000
"""Values of gauges that are remembered because they are past their budget."""

_OVERFLOWS: Final = {
    LABEL_SET: "a metric has more combinations of label values than its budget; further ones count "
    "as `other`. Raise it with OTEL_COACH_BUDGET_LABEL_SET.",
    INSTRUMENT: "there are more instruments than their budget; further ones are not measured. "
    "Raise it with OTEL_COACH_BUDGET_INSTRUMENT, or look for names made at run time.",
    INSTRUMENT_LINES: "instruments other than otel-coach's fill their budget of lines on the page; "
    "their further series are added up without labels, and further instruments are not measured. "
    "Raise it with OTEL_COACH_BUDGET_INSTRUMENT_LINES, or give them fewer labels.",
}
_OVERFLOW: Final = (
    "label {label} has more values than its budget, or one that cannot be a label; those count as "
    "`other`. Raise it with OTEL_COACH_BUDGET_{LABEL}, or look for a value that changes with every "
    "request."
)
_ADMITTED_OVERFLOW: Final = (
    "label {label} has more values than its number in OTEL_COACH_ADMIT_LABELS, or one that cannot "
    "be a label; those count as `other`. Raise the number there (`{label}:N`), or look for a value "
    "that changes with every request."
)


def overflow_text(label: str) -> str:
    """Returns the log text for a full budget of `label`, which is a label or a limit.

    A label that the operator admits has its instrument and a colon before it.
    """
    text = _OVERFLOWS.get(label, _OVERFLOW if label in DEFAULT_SIZES else _ADMITTED_OVERFLOW)
    return text.format(label=label, LABEL=label.upper())


class ClaimLog(Protocol):
    """The claims of several processes, in one order for all of them."""

    def append(self, line: bytes) -> None:
        """Appends a line; raises OSError if that is impossible."""
        ...

    def new_lines(self) -> Iterable[bytes]:
        """Returns the lines that this process has not read yet, its own among them."""
        ...


class _Budget:
    """The values that have slots in the budget of a label or limit, with their number of slots."""

    def __init__(self, size: int, free: frozenset[str], pinned: Iterable[str]) -> None:
        self.admitted = {**dict.fromkeys(pinned, 1), **dict.fromkeys(free, 0)}
        self._free_slots = size - sum(self.admitted.values())
        self._permanent = frozenset(self.admitted)

    def has_room(self, weight: int) -> bool:
        return self._free_slots >= weight

    def admit(self, value: str, weight: int) -> None:
        if value not in self.admitted and self.has_room(weight):
            self.admitted[value] = weight
            self._free_slots -= weight

    def reset(self) -> Mapping[str, int]:
        """Removes all but the permanent values, and returns them with their number of slots."""
        removed = {
            value: self.admitted[value] for value in self.admitted if value not in self._permanent
        }
        for value, weight in removed.items():
            del self.admitted[value]
            self._free_slots += weight
        return removed


class Budgets:
    """Keeps labels, their combinations and instruments that are not otel-coach's within budgets.

    Args:
        sizes: by label or limit, the sizes that differ from the default.
        pinned: by label, the values that always have a slot; they are part of the budget.
        sizes_by_instrument: by instrument, the labels that the operator admits to it, with their
            sizes.
        queue: where each value that becomes `OTHER` is counted.
    """

    def __init__(
        self,
        sizes: Mapping[str, int] | None = None,
        pinned: Mapping[str, Iterable[str]] | None = None,
        sizes_by_instrument: Mapping[str, Mapping[str, int]] | None = None,
        queue: MeasurementQueue | None = None,
    ) -> None:
        self.queue = MeasurementQueue() if queue is None else queue
        self._logged: set[str] = set()
        self._sizes = {**DEFAULT_SIZES, **(sizes or {})}
        self._pinned = pinned or {}
        self._sizes_by_instrument = sizes_by_instrument or {}
        self._budgets: dict[tuple[str, str], _Budget] = {}
        self._declared = {label: set(values) for label, values in self._pinned.items()}
        """By label, the values that the operator pins and those that the application declares."""
        self.forked()
        self._log: ClaimLog | None = None
        self.claims_fail = False
        """Whether the last claim could not be shared: the disk may be full, but no budget."""

    def forked(self) -> None:
        """Replaces the lock in a forked child, where no thread holds it."""
        self._claim_lock = threading.RLock()  # reentrant: a finaliser may measure during a claim

    def bounded(self, label: str, value: object, owner: str = OWN_INSTRUMENTS) -> str:
        """Returns the text under which `value` is counted: its own, or `OTHER`."""
        text = label_value(value)
        if label == MODEL and text is not None and is_model_address(text):
            return OTHER  # an address is never a label, so this is no overflow
        if text is not None and self._takes_slot(owner, label, text):
            return text
        self._count_overflow(label, owner)
        return OTHER

    def together(
        self, owner: str, labels: Sequence[str], values: Iterable[str], *, is_ours: bool = False
    ) -> Sequence[str]:
        """Returns `values` if their combination has a slot for `owner`, an instrument's name.

        Otherwise all values become `OTHER`, except an empty error type, the status and the method,
        which have few values. If the instrument is otel-coach's (`is_ours`), the slots reserved for
        a declared route's method are tried first; and if the metric has no label for the method, a
        declared value of its first label is kept.
        """
        values = tuple(values)
        # The labels of otel-coach's own metrics are always the same.
        combination = _SEPARATOR.join(values if is_ours else (*labels, *values))
        if is_ours and self._takes_route_slot(owner, labels, values, combination):
            return values
        if self._takes_slot(owner, LABEL_SET, combination):
            return values
        self._count_overflow(LABEL_SET)
        kept = [
            value if label in KEPT or (label, value) == (ERROR_TYPE, NO_ERROR) else OTHER
            for label, value in zip(labels, values, strict=True)
        ]
        if is_ours and METHOD not in labels and self._is_declared(labels[0], values[0]):
            kept[0] = values[0]
        return kept

    def _takes_route_slot(
        self, owner: str, labels: Sequence[str], values: Sequence[str], combination: str
    ) -> bool:
        if METHOD not in labels:
            return False
        found = dict(zip(labels, values, strict=True))
        endpoint, method, status_class = found[ENDPOINT], found[METHOD], found[STATUS][:1]
        return (
            method != OTHER_METHOD
            and status_class in LABEL_SETS_PER_METHOD
            and self._is_declared(ENDPOINT, endpoint)
            and self._takes_slot(
                owner, _SEPARATOR.join((_ROUTES, status_class, method, endpoint)), combination
            )
            and self._takes_slot(owner, _ROUTES, combination)
        )

    def _count_overflow(self, label: str, owner: str = OWN_INSTRUMENTS) -> None:
        """Counts a value, combination or instrument past its budget; logs the first per label.

        All labels that the operator admits are counted as `OTHER`.
        """
        is_admitted = label not in DEFAULT_SIZES
        self.queue.put(LABEL_OVERFLOW, 1, (OTHER if is_admitted else label,))
        if is_admitted:
            label = f"{owner}:{label}"
        if label not in self._logged and not self.claims_fail:
            self._logged.add(label)
            _logger.warning("otel-coach: %s", overflow_text(label))

    def _is_declared(self, label: str, value: str) -> bool:
        return value in self._declared.get(label, ())

    def take_lines(self, instrument: str, values: Iterable[str], lines: int) -> bool:
        """Takes `lines` of the page for `values` of an instrument; returns whether there was room.

        Called only for instruments that are not otel-coach's, which share one limit.
        """
        combination = _SEPARATOR.join((instrument, *values))
        if self._takes_slot(OWN_INSTRUMENTS, INSTRUMENT_LINES, combination, lines):
            return True
        self._count_overflow(INSTRUMENT_LINES)
        return False

    def take_slot_for_instrument(self, name: str) -> bool:
        """Takes a slot for an instrument that is not otel-coach's; returns whether one was left."""
        if self._takes_slot(OWN_INSTRUMENTS, INSTRUMENT, name):
            return True
        self._count_overflow(INSTRUMENT)
        return False

    def reserve(self, label: str, values: Iterable[object]) -> None:
        """Reserves slots for values that the application declares, before other values arrive."""
        for value in values:
            text = label_value(value)
            if text is not None and self._takes_slot(OWN_INSTRUMENTS, label, text):
                self._declared.setdefault(label, set()).add(text)

    def share(self, log: ClaimLog) -> None:
        """Shares the budgets with other processes: a slot goes to the first claim in `log`."""
        with self._claim_lock:
            self._log = log
            removed = {key: budget.reset() for key, budget in items_of(self._budgets)}
            for (owner, label), values in removed.items():
                for value, weight in values.items():
                    self._claim(owner, label, value, weight)

    def _takes_slot(self, owner: str, label: str, value: str, weight: int = 1) -> bool:
        budget = self._budget(owner, label)
        if value in budget.admitted:
            return True
        if not budget.has_room(weight):
            return False
        with self._claim_lock:
            self._claim(owner, label, value, weight)
        return value in budget.admitted

    def _claim(self, owner: str, label: str, value: str, weight: int) -> None:
        budget = self._budget(owner, label)
        if self._log is None:
            budget.admit(value, weight)
            return
        self.claims_fail = True  # no slot for now: without the log, it is unknown which are taken
        with suppress(OSError):
            # Read first: what another worker, or an earlier one, has claimed is not written again.
            self._read(self._log)
            if value not in budget.admitted and budget.has_room(weight):
                self._log.append(json.dumps([owner, label, value, weight]).encode())
                self._read(self._log)
            self.claims_fail = False

    def _read(self, log: ClaimLog) -> None:
        for line in log.new_lines():
            # A line that a process did not finish writing is skipped.
            with suppress(ValueError, TypeError, LookupError):
                owner, label, value, *weight = json.loads(line)
                self._budget(owner, label).admit(value, *(weight or (1,)))

    def _budget(self, owner: str, label: str) -> _Budget:
        budget = self._budgets.get((owner, label))
        if budget is None:
            size = self._sizes_by_instrument.get(owner, {}).get(label) or self._size(label)
            free = (
                OUR_OWN_VALUES.get(label, frozenset[str]())
                if owner == OWN_INSTRUMENTS
                else frozenset[str]()
            )
            new = _Budget(size, free | {OTHER}, self._pinned.get(label, ()))
            budget = self._budgets.setdefault((owner, label), new)
        return budget

    def _size(self, label: str) -> int:
        if label == _ROUTES:
            return LABEL_SETS_PER_ENDPOINT * self._sizes[ENDPOINT]
        if label.startswith(_ROUTES):
            return LABEL_SETS_PER_METHOD[label.split(_SEPARATOR)[1]]
        return self._sizes[label]


class BoundedLabels:
    """Keeps the labels of otel-coach's own measurements within `budgets`."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._known: dict[tuple[Metric, tuple[object, ...]], tuple[str, ...]] = {}
        """A cache: bounded labels by metric and given labels, if none of them became `OTHER`."""
        self._read_again: dict[tuple[Metric, tuple[object, ...]], tuple[str, ...]] = {}
        """The same for gauges' values, if a label became `OTHER`; each scrape reads them again."""

    def of(self, metric: Metric, labels: tuple[object, ...]) -> tuple[str, ...]:
        """Returns the label values under which a measurement with `labels` is counted."""
        try:
            return self._known[metric, labels]
        except (KeyError, TypeError):  # TypeError: a value is not hashable
            pass
        bounded = tuple(map(self._budgets.bounded, metric.labels, labels))
        if not metric.is_closed:
            bounded = tuple(
                self._budgets.together(metric.name, metric.labels, bounded, is_ours=True)
            )
        # Only labels that have slots are cached, so that the cache stays as small as the budgets.
        if OTHER not in bounded and all(type(label) is str for label in labels):
            self._known[metric, labels] = bounded
        return bounded

    def of_gauge(self, metric: Metric, labels: tuple[object, ...]) -> tuple[str, ...]:
        """Returns the same as `of`, for a value that each scrape reads again.

        A value past its budget counts as an overflow when it is read for the first time.
        """
        if (found := self._read_again.get((metric, labels))) is not None:
            return found
        bounded = self.of(metric, labels)
        has_no_slot = OTHER in bounded and not self._budgets.claims_fail
        if has_no_slot and len(self._read_again) < _MAX_READ_AGAIN:
            self._read_again[metric, labels] = bounded
        return bounded

    def forget(self) -> None:
        """Clears the cache, because some labels may have lost their slots."""
        self._known.clear()
        self._read_again.clear()
