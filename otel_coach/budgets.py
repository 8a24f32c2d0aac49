"""Which values keep their name as labels, and how many of them.

Those that the operator pinned come first, then those that the application itself declares (its
routes, its dependencies), then whoever comes first. The first two are known before any request: so
junk that arrives early takes no place of theirs.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from otel_coach.vocabulary import (
    DEFAULT_SIZES,
    INSTRUMENT,
    LABEL_SET,
    METHOD,
    MODEL,
    NO_ERROR,
    OTHER,
    OUR_OWN_VALUES,
    STATUS,
    is_address,
    label_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OURS: Final = ""
"""Whose the budgets of our own instruments are; others have budgets by their instrument's name."""

KEPT: Final = frozenset({STATUS, METHOD})
"""Labels that a combination past its limit keeps: they have few values."""
_SEPARATOR: Final = "\x1f"


class ClaimLog(Protocol):
    """What several processes claim, in one order for all of them."""

    def append(self, line: bytes) -> None:
        """Add a line; raises OSError if that is impossible."""
        ...

    def new_lines(self) -> Iterable[bytes]:
        """Lines that were not read yet, one's own among them."""
        ...


class _Budget:
    """The values of one label, or of one limit, that have a place."""

    def __init__(self, size: int, free: frozenset[str], pinned: Iterable[str]) -> None:
        self.admitted = {*free, *pinned}
        self._places = size - len(self.admitted - free)
        self._first = frozenset(self.admitted)

    @property
    def is_full(self) -> bool:
        return self._places <= 0

    def admit(self, value: str) -> None:
        if value not in self.admitted and not self.is_full:
            self.admitted.add(value)
            self._places -= 1

    def begin_anew(self) -> Iterable[str]:
        """Empty the places; who had one."""
        had = self.admitted - self._first
        self._places += len(had)
        self.admitted = {*self._first}
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

    def together(self, owner: str, labels: Iterable[str], values: Iterable[str]) -> Iterable[str]:
        """`values` if this combination has a place for `owner`, an instrument's name.

        Otherwise all become `OTHER`, but for the status and the method, which are few.
        """
        values = tuple(values)
        if self._has_place(owner, LABEL_SET, _SEPARATOR.join(values)):
            return values
        self.on_overflow(LABEL_SET)
        return (
            value if label in KEPT or value == NO_ERROR else OTHER
            for label, value in zip(labels, values, strict=True)
        )

    def has_place_for_instrument(self, name: str) -> bool:
        """Whether an instrument of others may be measured."""
        if self._has_place(OURS, INSTRUMENT, name):
            return True
        self.on_overflow(INSTRUMENT)
        return False

    def reserve(self, label: str, values: Iterable[object]) -> None:
        """Give values that the application declares their places before any others come."""
        for value in values:
            if (text := label_value(value)) is not None:
                self._has_place(OURS, label, text)

    def share(self, log: ClaimLog) -> None:
        """Keep the budgets together with other processes, by what `log` has first."""
        with self._claiming:
            self._log = log
            had = {key: budget.begin_anew() for key, budget in tuple(self._budgets.items())}
            for (owner, label), values in had.items():
                for value in values:
                    self._claim(owner, label, value)

    def _has_place(self, owner: str, label: str, value: str) -> bool:
        budget = self._budget(owner, label)
        if value in budget.admitted:
            return True
        if budget.is_full:
            return False
        with self._claiming:
            self._claim(owner, label, value)
        return value in budget.admitted

    def _claim(self, owner: str, label: str, value: str) -> None:
        budget = self._budget(owner, label)
        if self._log is None:
            budget.admit(value)
            return
        # Read first: what another worker has claimed, or one before it, is not written again.
        with suppress(OSError):  # it has no place for now: alone we cannot know which are taken
            self._read(self._log)
            if value not in budget.admitted and not budget.is_full:
                self._log.append(json.dumps([owner, label, value]).encode())
                self._read(self._log)

    def _read(self, log: ClaimLog) -> None:
        for line in log.new_lines():
            # A line that a process could not finish has no meaning.
            with suppress(ValueError, TypeError, LookupError):
                owner, label, value = json.loads(line)
                self._budget(owner, label).admit(value)

    def _budget(self, owner: str, label: str) -> _Budget:
        budget = self._budgets.get((owner, label))
        if budget is None:
            size = self._sizes_of_others.get(owner, {}).get(label) or self._sizes[label]
            free = (
                OUR_OWN_VALUES.get(label, frozenset[str]()) if owner == OURS else frozenset[str]()
            )
            fresh = _Budget(size, free | {OTHER}, self._pinned.get(label, ()))
            budget = self._budgets.setdefault((owner, label), fresh)
        return budget
