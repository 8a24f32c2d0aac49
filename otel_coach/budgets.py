"""How many different values a label may take."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from otel_coach.vocabulary import DEFAULT_BUDGETS, OUR_OWN_VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_VALUE: Final = 200


class LabelBudgets:
    """Holds every open label to its budget of values, first come, first served."""

    def __init__(self, budgets: Mapping[str, int] | None = None) -> None:
        self._budgets = {**DEFAULT_BUDGETS, **(budgets or {})}
        self._admitted: dict[str, set[str]] = {label: set() for label in self._budgets}
        self._admitting = threading.Lock()

    def admit(self, label: str, value: object) -> str | None:
        """The value under which to count, None if it must become `OTHER`."""
        text = value if isinstance(value, str) else str(value)
        admitted = self._admitted.get(label)
        if admitted is None or text in admitted or text in OUR_OWN_VALUES.get(label, ()):
            return text
        if len(text) > _LONGEST_VALUE:
            return None
        text.encode()  # a lone surrogate could not be written to the page
        with self._admitting:
            if len(admitted) >= self._budgets[label]:
                return None
            admitted.add(text)
        return text
