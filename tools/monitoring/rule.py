"""Recording rules and alerts, independent of Prometheus' file format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.monitoring.objectives import TICKET
from tools.monitoring.promql import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_JOBS: Final = Reader()
"""Selects all jobs; expressions keep each job apart."""


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule: an expression that alerts use; its name is level:metric:operations."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule, for a condition that a person has to act on.

    The condition must hold for `hold` before the alert fires. The alert keeps firing for `keep`
    after the condition was last true, so that a short dip neither ends it nor starts a second one.
    """

    name: str
    expr: str
    summary: str
    description: str
    hold: str
    keep: str
    severity: str = TICKET
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
