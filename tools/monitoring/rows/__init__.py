"""The rows of the dashboard, from the symptoms that users notice to possible causes."""

from __future__ import annotations

from typing import Final

from tools.monitoring.rows.llm import LLM
from tools.monitoring.rows.retrieval import RETRIEVAL
from tools.monitoring.rows.service import AUTH_AND_LIMITS, DEPENDENCIES, INSTRUMENTATION, TOOLS
from tools.monitoring.rows.users import USERS

ROWS: Final = (USERS, LLM, TOOLS, RETRIEVAL, AUTH_AND_LIMITS, DEPENDENCIES, INSTRUMENTATION)
