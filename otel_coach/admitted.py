"""Labels that an operator admits to instruments that are not ours: `OTEL_COACH_ADMIT_LABELS`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_coach.environment_variables import OTEL_COACH_ADMIT_LABELS
from otel_coach.setting_values import count
from otel_coach.vocabulary import ALLOWED_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable

_ADMITTED: Final = re.compile(r"([\w./-]+):([a-zA-Z_][\w.-]*)(?::(\d+))?", re.ASCII)
_ADMITTED_VALUES: Final = 20


def admitted_labels(entries: Iterable[str], problems: list[str]) -> dict[str, dict[str, int]]:
    """Labels, and how many values each may take, by instrument.

    Of an entry that is wrong, `problems` gets a line.
    """
    admitted: dict[str, dict[str, int]] = {}
    for entry in entries:
        found = _ADMITTED.fullmatch(entry)
        if found is None:
            problems.append(
                f"{OTEL_COACH_ADMIT_LABELS}: {entry!r} is not of the form instrument:label or "
                "instrument:label:number_of_values; left out"
            )
            continue
        instrument, label, size = found.groups()
        labels = admitted.setdefault(instrument, {})
        # Prometheus has neither dots nor dashes in a label's name.
        names = {_label_name(one) for one in (*labels, *ALLOWED_LABELS) if one != label}
        if label in ALLOWED_LABELS or _label_name(label) in names:
            problems.append(
                f"{OTEL_COACH_ADMIT_LABELS}: {instrument} has a label {_label_name(label)} "
                "already; left out"
            )
            continue
        try:
            labels[label] = count(size or str(_ADMITTED_VALUES))
        except ValueError as error:
            problems.append(
                f"{OTEL_COACH_ADMIT_LABELS}: the {size!r} of {entry!r} {error}; left out"
            )
    return {instrument: labels for instrument, labels in admitted.items() if labels}


def _label_name(attribute: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)
