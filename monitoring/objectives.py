"""What is promised to users, and from where on somebody is told. Every number is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AVAILABILITY: Final = 0.995
"""Of the AI requests that their users saw to the end, as many end without an error."""

FIRST_CHUNK_SECONDS: Final = 5.0
FIRST_CHUNK_SHARE: Final = 0.95
"""Of the streams that begin, as many begin within FIRST_CHUNK_SECONDS (a bucket's bound)."""

MINIMUM_BAD: Final = 5
"""Fewer users than these, in an alert's long window, are chance and wake nobody."""


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast the error budget of 30 days is used up: the windows of Google's SRE workbook.

    The long window says that it matters, the short one that it still goes on.
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
    Burn(14.4, "5m", "1h", hold="2m", keep="10m", severity=PAGE),  # 2 % of it in 1 hour
    Burn(6, "30m", "6h", hold="15m", keep="30m", severity=PAGE),  # 5 % of it in 6 hours
    Burn(1, "6h", "3d", hold="1h", keep="1h", severity=TICKET),  # 10 % of it in 3 days
)

ABORTED_SHARE: Final = 0.3
ABORTED_MINIMUM_REQUESTS: Final = 20

COST_FLOOR_USD_PER_HOUR: Final = 1
COST_FACTOR: Final = 3
COST_USUAL: Final = 0.95
"""The quantile of a week's hours that counts as usual; for the mean each day's peak is odd."""

PROVIDER_ERROR_SHARE: Final = 0.1
UNMEASURED_SHARE: Final = 0.05
MINIMUM_CALLS: Final = 20

SURGE_FLOOR_PER_SECOND: Final = 0.5
SURGE_FACTOR: Final = 5

DEPENDENCY_UP_SHARE: Final = 0.5

LOST_AT_ONCE: Final = 1000
"""Spans, points or records in an hour; fewer matter where they go on and on."""
