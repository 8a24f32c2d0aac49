"""OTEL_* variables that are set only after they have been read."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ_LATER: Final = re.compile(r"OTEL_(?:PYTHON|INSTRUMENTATION|SEMCONV)_")
"""An instrumentation reads most of these when it is loaded, which the application may do later."""
_READ_AT_THE_START: Final = frozenset(
    {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        "OTEL_PYTHON_EXCLUDED_URLS",
        "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS",
    }
)


class LateVariables:
    """Notes the OTEL_* variables of this process, and tells which ones are set afterwards."""

    def __init__(self) -> None:
        self.before: Mapping[str, str] = _variables()
        """The variables at first."""

    def names(self) -> list[str]:
        """Returns the names of the variables that have another value than at first."""
        return sorted(
            name for name, value in _variables().items() if self.before.get(name) != value
        )


def _variables() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _READ_AT_THE_START or (name.startswith("OTEL_") and not _READ_LATER.match(name))
    }
