"""Faults inside otel-coach: counted, and logged once for each kind and place."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from otel_coach.core.guard import raised_at
from otel_coach.metrics.catalogue import ERRORS
from otel_coach.metrics.labels import fault_type

if TYPE_CHECKING:
    from otel_coach.metrics.measurement_queue import MeasurementQueue

_logger = logging.getLogger("otel_coach")

_MAX_LOGGED: Final = 100


class FaultLog:
    """Counts faults through `queue`, as otel_coach_errors_total, and logs them."""

    def __init__(self, queue: MeasurementQueue) -> None:
        self._queue = queue
        self._logged: set[str] = set()

    def fault(self, fault: BaseException, place: str) -> None:
        """Counts a fault, and logs the first of its kind at `place`.

        The log line does not contain the exception's message, which could repeat a user's words.
        """
        self.log(fault, place)
        self._queue.put(ERRORS, 1, (fault_type(fault),))

    def log(self, fault: BaseException, place: str) -> None:
        """Logs `fault` if it is the first of its kind at `place`."""
        seen = f"{place} {type(fault).__name__}"
        if seen in self._logged or len(self._logged) >= _MAX_LOGGED:
            return
        self._logged.add(seen)
        _logger.warning(
            "otel-coach: %s in %s (%s) was swallowed; the application is not affected. "
            "Further ones of this kind and place are only counted, in %s.",
            type(fault).__name__,
            place,
            raised_at(fault),
            ERRORS.prometheus_name,
        )
