"""What Prometheus evaluates by itself, apart from how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from monitoring.objectives import TICKET
from monitoring.promql import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_JOBS: Final = Reader()
"""Every job that there is, each for itself."""


@dataclass(frozen=True, slots=True)
class Record:
    """A figure that is worked out once and used by alerts; named level:metric:operations."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person has to do something about.

    It must last for `hold` before it fires. Once it fires it goes on for `keep` after the last time
    it was true, so that a short dip ends no alert and begins no second one.
    """

    name: str
    expr: str
    summary: str
    description: str
    hold: str
    keep: str
    severity: str = TICKET
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
