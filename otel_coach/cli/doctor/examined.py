"""What each look of the doctor is given, and the facts that it yields beside findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_coach.core.installed import is_installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_coach.settings import EffectiveSettings


@dataclass(frozen=True, slots=True)
class Examined:
    """What is looked at: the settings that take effect, and all variables of the environment."""

    settings: EffectiveSettings
    variables: Mapping[str, str]

    @property
    def configures_by_file(self) -> bool:
        """Whether OTEL_CONFIG_FILE is read, so that the variables for exporters have no effect."""
        has_file = self.settings.config_file is not None
        return has_file and is_installed("opentelemetry.configuration")

    def text(self, name: str) -> str:
        """Returns a variable's value, "" if it is not set."""
        return self.variables.get(name, "").strip()


@dataclass(frozen=True, slots=True)
class Fact:
    """What is in force, or works."""

    text: str

    def __str__(self) -> str:
        return self.text
