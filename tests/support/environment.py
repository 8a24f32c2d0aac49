"""The environment that the tests give to the programs that they start."""

from __future__ import annotations

import os


def without_settings() -> dict[str, str]:
    """The variables of this process, without OpenTelemetry's and otel-coach's."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "_OTEL_"))
    }
