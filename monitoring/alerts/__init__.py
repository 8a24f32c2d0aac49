"""The recording rules and alerts, from what users feel down to what might cause it."""

from __future__ import annotations

from typing import Final

from monitoring.alerts import budgets, causes, usage

RECORDS: Final = (*budgets.RECORDS, *usage.RECORDS, *causes.RECORDS)
ALERTS: Final = (*budgets.ALERTS, *usage.ALERTS, *causes.ALERTS)
