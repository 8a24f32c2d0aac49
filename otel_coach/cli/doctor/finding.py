"""What the doctor reports: findings, and facts that need no mending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_coach.core.traps import Severity, Trap
    from otel_coach.settings import EffectiveSettings


@dataclass(frozen=True, slots=True)
class Examined:
    """What is looked at: the settings that take effect, and all variables of the environment."""

    settings: EffectiveSettings
    variables: Mapping[str, str]

    def text(self, name: str) -> str:
        """Returns a variable's value, "" if it is not set."""
        return self.variables.get(name, "").strip()


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, as it was found here."""

    trap: Trap
    what: str
    cure: str

    @property
    def why(self) -> str:
        """Why it matters."""
        return self.trap.why

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return self.trap.severity

    @property
    def line(self) -> str:
        """The finding as one line of another command."""
        return f"{self.what}. Cure: {self.cure}"

    def __str__(self) -> str:
        return f"{self.what}; {self.cure}"


@dataclass(frozen=True, slots=True)
class Fact:
    """What is in force, or works."""

    text: str

    def __str__(self) -> str:
        return self.text


def found(trap: Trap, **values: object) -> Finding:
    """Returns the finding that `trap` is here, with the values of its templates."""
    return Finding(trap, *trap.filled(values))
