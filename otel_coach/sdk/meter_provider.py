"""The SDK's meter provider, extended: bounds instruments, and flushes the recorder first."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider

from otel_coach.metrics.recorder import COLLECTION_SHARE
from otel_coach.sdk.resource import without_command_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import Attributes

    from otel_coach.sdk.bounded_meters import BoundedMeters

_logger = logging.getLogger("otel_coach")

GIVING_WAY: Final = frozenset(
    {
        "fastapi",
        "opentelemetry.instrumentation.asgi",
        "opentelemetry.instrumentation.fastapi",
        "opentelemetry.instrumentation.starlette",
    }
)
"""Scopes that would measure the HTTP server a second time."""


class CoachMeterProvider(MeterProvider):
    """A MeterProvider whose only HTTP server metrics are otel-coach's."""

    def __init__(self, bounded_meters: BoundedMeters, **arguments: Any) -> None:
        self._bounded_meters = bounded_meters
        super().__init__(**arguments)
        self.before_flush: Callable[[float], object] = bool
        """Called by `force_flush` with a number of seconds: what waits must be emitted in them."""
        self.before_shutdown: list[Callable[[], object]] = []
        """Called once by `shutdown`, which the application may call; metrics can still be read."""
        self._is_shut_down = False

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Pushes all that was measured, also what waits in the recorder."""
        self.before_flush(COLLECTION_SHARE * timeout_millis / 1000)
        return super().force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Shuts the SDK's provider down; a further call does nothing."""
        if self._is_shut_down:
            return
        self._is_shut_down = True
        for call in self.before_shutdown:
            call()
        super().shutdown(timeout_millis)

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Meter:
        """Returns the SDK's meter, bounded; for a scope in `GIVING_WAY`, one that does nothing."""
        if name in GIVING_WAY:
            _logger.info("otel-coach: the metrics of %s give way to otel-coach's own", name)
            return metrics.NoOpMeterProvider().get_meter(name, version, schema_url, attributes)
        meter = super().get_meter(name, version, schema_url, attributes)
        return self._bounded_meters.bounded(meter) or metrics.NoOpMeter(name)

    def own_meter(self, version: str) -> Meter:
        """Returns the meter for otel-coach's own instruments, which the recorder bounds."""
        return super().get_meter("otel_coach", version)

    def _update_resource(self, resource: Resource) -> None:
        # The SDK detects parts of the resource again after a fork.
        super()._update_resource(without_command_line(resource))
