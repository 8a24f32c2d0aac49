"""OTEL_* variables that are set only after they have been read."""

from __future__ import annotations

import os


class LateVariables:
    """Notes the OTEL_* variables of this process, and tells which ones are set afterwards."""

    def __init__(self) -> None:
        self._before = _variables()

    def names(self) -> list[str]:
        """Returns the names of the variables that have another value than at first."""
        return sorted(
            name for name, value in _variables().items() if self._before.get(name) != value
        )


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
