"""All recording rules and alerts, from the symptoms that users notice to possible causes."""

from __future__ import annotations

from typing import Final

from tools.monitoring.alerts import budgets, causes, usage

RECORDS: Final = (*budgets.RECORDS, *usage.RECORDS, *causes.RECORDS)
ALERTS: Final = (*budgets.ALERTS, *usage.ALERTS, *causes.ALERTS)
