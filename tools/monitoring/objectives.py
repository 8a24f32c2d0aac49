"""The service level objectives and the thresholds of all alerts. Every number is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otel_coach.pricing.listed import OLD_DAYS

AVAILABILITY: Final = 0.995
"""The share of AI requests, without those that users left, that must end without an error."""

FIRST_CHUNK_SECONDS: Final = 5.0
FIRST_CHUNK_SHARE: Final = 0.95
"""The share of started streams whose first chunk must come within FIRST_CHUNK_SECONDS.

FIRST_CHUNK_SECONDS is the bound of a histogram bucket.
"""

MINIMUM_BAD: Final = 5
"""A burn alert needs more bad events than this in its long window; so few may be chance."""


@dataclass(frozen=True, slots=True)
class Burn:
    """A burn rate of the 30-day error budget, with the windows of Google's SRE workbook.

    The long window shows that the burn is significant, the short one that it still goes on.
    """

    factor: float
    short: str
    long: str
    hold: str
    keep: str
    severity: str


PAGE: Final = "page"
TICKET: Final = "ticket"

BURNS: Final = (
    Burn(14.4, "5m", "1h", hold="2m", keep="10m", severity=PAGE),  # 2 % of the budget in 1 hour
    Burn(6, "30m", "6h", hold="15m", keep="30m", severity=PAGE),  # 5 % of the budget in 6 hours
    Burn(1, "6h", "3d", hold="1h", keep="1h", severity=TICKET),  # 10 % of the budget in 3 days
)

ABORTED_SHARE: Final = 0.3
ABORTED_MINIMUM_REQUESTS: Final = 20

ABANDONED_COST_SHARE: Final = 0.2

COST_FLOOR_USD_PER_HOUR: Final = 1
COST_FACTOR: Final = 3
COST_USUAL: Final = 0.95
"""The quantile of a week's hourly costs that counts as usual.

Compared with the mean, each day's peak would look unusual.
"""

PROVIDER_ERROR_SHARE: Final = 0.1
UNMEASURED_SHARE: Final = 0.05
MINIMUM_CALLS: Final = 20

SURGE_FLOOR_PER_SECOND: Final = 0.5
SURGE_FACTOR: Final = 5

DEPENDENCY_UP_SHARE: Final = 0.5

PRICE_LIST_DAYS: Final = OLD_DAYS

LOST_AT_ONCE: Final = 1000
"""Spans, points or records lost in an hour; fewer matter only if the loss continues."""
