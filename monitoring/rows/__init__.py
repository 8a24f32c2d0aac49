"""The rows of the dashboard, from what users feel down to what might cause it."""

from __future__ import annotations

from typing import Final

from monitoring.rows.llm import LLM
from monitoring.rows.service import AUTH_AND_LIMITS, DEPENDENCIES, INSTRUMENTATION, TOOLS
from monitoring.rows.users import USERS

ROWS: Final = (USERS, LLM, TOOLS, AUTH_AND_LIMITS, DEPENDENCIES, INSTRUMENTATION)
