"""Which values keep their name as labels, and how many of them.

Those that the operator pinned come first, then those that the application itself declares (its
routes, its dependencies), then whoever comes first. The first two are known before any request: so
junk that arrives early takes no place of theirs. Nor does it among the combinations: the methods
that declared routes answer have places of their own there.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from otel_coach.vocabulary import (
    DEFAULT_SIZES,
    ENDPOINT,
    INSTRUMENT,
    INSTRUMENT_LINES,
    LABEL_SET,
    METHOD,
    MODEL,
    NO_ERROR,
    OTHER,
    OTHER_METHOD,
    OUR_OWN_VALUES,
    SETS_OF_A_METHOD,
    SETS_OF_AN_ENDPOINT,
    STATUS,
    is_address,
    label_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

OURS: Final = ""
"""Whose the budgets of our own instruments are; others have budgets by their instrument's name."""

KEPT: Final = frozenset({STATUS, METHOD})
"""Labels that a combination past its limit keeps: they have few values."""
_SEPARATOR: Final = "\x1f"
_ROUTES: Final = "routes"
"""The limit of what the methods of all declared routes have together; of one of them, it has more
behind it."""

_OVERFLOWS: Final = {
    LABEL_SET: "a metric has more combinations of label values than its budget; further ones count "
    "as `other`. Raise it with OTEL_COACH_BUDGET_LABEL_SET.",
    INSTRUMENT: "there are more instruments than their budget; further ones are not measured. "
    "Raise it with OTEL_COACH_BUDGET_INSTRUMENT, or look for names made at run time.",
    INSTRUMENT_LINES: "instruments that are not otel-coach's fill their budget of lines on the "
    "page; their further series are added up without labels, and further instruments are not "
    "measured. Raise it with OTEL_COACH_BUDGET_INSTRUMENT_LINES, or give them fewer labels.",
}
_OVERFLOW: Final = (
    "label {label} has more values than its budget, or one that is no name; they count as `other`. "
    "Raise it with OTEL_COACH_BUDGET_{LABEL}, or look for a value that changes with every request."
)


def overflow_text(label: str) -> str:
    """What to tell of the budget of `label`, a label or a limit, when it is full."""
    return _OVERFLOWS.get(label, _OVERFLOW).format(label=label, LABEL=label.upper())


class ClaimLog(Protocol):
    """What several processes claim, in one order for all of them."""

    def append(self, line: bytes) -> None:
        """Add a line; raises OSError if that is impossible."""
        ...

    def new_lines(self) -> Iterable[bytes]:
        """Lines that were not read yet, one's own among them."""
        ...


class _Budget:
    """The values of one label, or of one limit, that have a place, and how many places each."""

    def __init__(self, size: int, free: frozenset[str], pinned: Iterable[str]) -> None:
        self.admitted = {**dict.fromkeys(pinned, 1), **dict.fromkeys(free, 0)}
        self._places = size - sum(self.admitted.values())
        self._first = frozenset(self.admitted)

    def has_room(self, weight: int) -> bool:
        return self._places >= weight

    def admit(self, value: str, weight: int) -> None:
        if value not in self.admitted and self.has_room(weight):
            self.admitted[value] = weight
            self._places -= weight

    def begin_anew(self) -> Mapping[str, int]:
        """Empty the places; who had how many."""
        had = {value: self.admitted[value] for value in self.admitted if value not in self._first}
        for value, weight in had.items():
            del self.admitted[value]
            self._places += weight
        return had


class Budgets:
    """Holds labels, their combinations and foreign instruments to their budgets.

    Args:
        sizes: by label or limit, where it is not the default.
        pinned: values by label that always have a place; they count as part of the budget.
        sizes_of_others: by instrument, the labels that the operator admits to it, and their sizes.
    """

    def __init__(
        self,
        sizes: Mapping[str, int] | None = None,
        pinned: Mapping[str, Iterable[str]] | None = None,
        sizes_of_others: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self.on_overflow: Callable[[str], None] = lambda _: None
        """Told, by label or limit, of each value that becomes `OTHER`; set by who counts it."""
        self._sizes = {**DEFAULT_SIZES, **(sizes or {})}
        self._pinned = pinned or {}
        self._sizes_of_others = sizes_of_others or {}
        self._budgets: dict[tuple[str, str], _Budget] = {}
        self._declared = {label: set(values) for label, values in self._pinned.items()}
        """By label: what the operator pinned, and what the application declared."""
        self.forked()
        self._log: ClaimLog | None = None

    def forked(self) -> None:
        """In a forked child nobody else claims."""
        self._claiming = threading.RLock()  # a finaliser may measure in the middle of a claim

    def bounded(self, label: str, value: object, owner: str = OURS) -> str:
        """The text under which `value` is counted: its own, or `OTHER`."""
        text = label_value(value)
        if label == MODEL and text is not None and is_address(text):
            return OTHER  # by rule, not for want of a place
        if text is not None and self._has_place(owner, label, text):
            return text
        self.on_overflow(label)
        return OTHER

    def together(
        self, owner: str, labels: Sequence[str], values: Iterable[str], *, is_ours: bool = False
    ) -> Sequence[str]:
        """`values` if this combination has a place for `owner`, an instrument's name.

        Otherwise all become `OTHER`, but for the status and the method, which are few. Of an
        instrument of ours (`is_ours`), what answers for a declared route is asked for its own place
        before, and a declared name in the first label is kept, where there is no method.
        """
        values = tuple(values)
        combination = _SEPARATOR.join(values)
        if is_ours and self._has_place_of_a_route(owner, labels, values, combination):
            return values
        if self._has_place(owner, LABEL_SET, combination):
            return values
        self.on_overflow(LABEL_SET)
        kept = [
            value if label in KEPT or value == NO_ERROR else OTHER
            for label, value in zip(labels, values, strict=True)
        ]
        if is_ours and METHOD not in labels and self._is_declared(labels[0], values[0]):
            kept[0] = values[0]
        return kept

    def _has_place_of_a_route(
        self, owner: str, labels: Sequence[str], values: Sequence[str], combination: str
    ) -> bool:
        if METHOD not in labels:
            return False
        found = dict(zip(labels, values, strict=True))
        endpoint, method, kind = found[ENDPOINT], found[METHOD], found[STATUS][:1]
        return (
            method != OTHER_METHOD
            and kind in SETS_OF_A_METHOD
            and self._is_declared(ENDPOINT, endpoint)
            and self._has_place(
                owner, _SEPARATOR.join((_ROUTES, kind, method, endpoint)), combination
            )
            and self._has_place(owner, _ROUTES, combination)
        )

    def _is_declared(self, label: str, value: str) -> bool:
        return value in self._declared.get(label, ())

    def has_lines(self, instrument: str, values: Iterable[str], lines: int) -> bool:
        """Whether the page has `lines` for `values` of an instrument of others."""
        combination = _SEPARATOR.join((instrument, *values))
        if self._has_place(OURS, INSTRUMENT_LINES, combination, lines):
            return True
        self.on_overflow(INSTRUMENT_LINES)
        return False

    def has_place_for_instrument(self, name: str) -> bool:
        """Whether an instrument of others may be measured."""
        if self._has_place(OURS, INSTRUMENT, name):
            return True
        self.on_overflow(INSTRUMENT)
        return False

    def reserve(self, label: str, values: Iterable[object]) -> None:
        """Give values that the application declares their places before any others come."""
        for value in values:
            text = label_value(value)
            if text is not None and self._has_place(OURS, label, text):
                self._declared.setdefault(label, set()).add(text)

    def share(self, log: ClaimLog) -> None:
        """Keep the budgets together with other processes, by what `log` has first."""
        with self._claiming:
            self._log = log
            had = {key: budget.begin_anew() for key, budget in tuple(self._budgets.items())}
            for (owner, label), values in had.items():
                for value, weight in values.items():
                    self._claim(owner, label, value, weight)

    def _has_place(self, owner: str, label: str, value: str, weight: int = 1) -> bool:
        budget = self._budget(owner, label)
        if value in budget.admitted:
            return True
        if not budget.has_room(weight):
            return False
        with self._claiming:
            self._claim(owner, label, value, weight)
        return value in budget.admitted

    def _claim(self, owner: str, label: str, value: str, weight: int) -> None:
        budget = self._budget(owner, label)
        if self._log is None:
            budget.admit(value, weight)
            return
        # Read first: what another worker has claimed, or one before it, is not written again.
        with suppress(OSError):  # it has no place for now: alone we cannot know which are taken
            self._read(self._log)
            if value not in budget.admitted and budget.has_room(weight):
                self._log.append(json.dumps([owner, label, value, weight]).encode())
                self._read(self._log)

    def _read(self, log: ClaimLog) -> None:
        for line in log.new_lines():
            # A line that a process could not finish has no meaning.
            with suppress(ValueError, TypeError, LookupError):
                owner, label, value, *weight = json.loads(line)
                self._budget(owner, label).admit(value, *(weight or (1,)))

    def _budget(self, owner: str, label: str) -> _Budget:
        budget = self._budgets.get((owner, label))
        if budget is None:
            size = self._sizes_of_others.get(owner, {}).get(label) or self._size(label)
            free = (
                OUR_OWN_VALUES.get(label, frozenset[str]()) if owner == OURS else frozenset[str]()
            )
            fresh = _Budget(size, free | {OTHER}, self._pinned.get(label, ()))
            budget = self._budgets.setdefault((owner, label), fresh)
        return budget

    def _size(self, label: str) -> int:
        if label == _ROUTES:
            return SETS_OF_AN_ENDPOINT * self._sizes[ENDPOINT]
        if label.startswith(_ROUTES):
            return SETS_OF_A_METHOD[label.split(_SEPARATOR)[1]]
        return self._sizes[label]
