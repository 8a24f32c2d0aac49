"""All mistakes that the doctor knows. docs/doctor.md is generated from `TRAPS`."""

from __future__ import annotations

from typing import Final

from otel_coach.cli.doctor.traps import application, back_ends, environment, page
from otel_coach.core.traps import LOGGED

TRAPS: Final = (*(*environment.ROWS, *back_ends.ROWS, *LOGGED, *application.ROWS, *page.ROWS),)
"""All rows; `cli/traps.py` groups them by `Trap.way`."""
