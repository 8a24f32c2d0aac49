"""Parses `OTEL_COACH_ADMIT_LABELS`, which lists labels to keep on the application's instruments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_coach.configuration.environment_variables import OTEL_COACH_ADMIT_LABELS
from otel_coach.configuration.kinds import COUNT, words
from otel_coach.configuration.problem import Problem
from otel_coach.metrics.labels import ALLOWED_LABELS

if TYPE_CHECKING:
    from otel_coach.configuration.environment import Environment

_ADMITTED: Final = re.compile(r"([\w./-]+):([a-zA-Z_][\w.-]*)(?::(\d+))?", re.ASCII)
_DEFAULT_BUDGET: Final = 20


def admitted_labels(environment: Environment) -> dict[str, dict[str, int]]:
    """Returns the admitted labels, each with its budget, by instrument.

    Invalid entries are left out; each adds one to the problems.
    """
    problems = environment.problems
    admitted: dict[str, dict[str, int]] = {}
    for entry in words(environment.text(OTEL_COACH_ADMIT_LABELS)):
        found = _ADMITTED.fullmatch(entry)
        if found is None:
            problems.append(
                _problem(
                    f"{entry!r} is not of the form instrument:label or "
                    "instrument:label:number_of_values"
                )
            )
            continue
        instrument, label, size = found.groups()
        labels = admitted.setdefault(instrument, {})
        # Two names may become the same label, because Prometheus allows no dots or dashes in names.
        names = {_label_name(other) for other in (*labels, *ALLOWED_LABELS) if other != label}
        if label in ALLOWED_LABELS:
            problems.append(_problem(f"{instrument} may have the label {label} without it"))
            continue
        if _label_name(label) in names:
            taken = f"{instrument} has another label that Prometheus calls {_label_name(label)}"
            problems.append(_problem(taken))
            continue
        try:
            labels[label] = COUNT.parse(size or str(_DEFAULT_BUDGET))
        except ValueError as error:
            problems.append(_problem(f"the {size!r} of {entry!r} {error}"))
    return {instrument: labels for instrument, labels in admitted.items() if labels}


def _problem(what: str) -> Problem:
    variable = OTEL_COACH_ADMIT_LABELS
    return Problem(variable, f"{variable}: {what}; the entry is ignored")


def _label_name(attribute: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)
