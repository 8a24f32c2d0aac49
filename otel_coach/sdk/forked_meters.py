"""Makes a forked child process count its metrics from zero.

A child inherits its parent's totals. The SDK would push them as the child's, under the child's own
instance id, and a back end would add up both. The SDK keeps its counts in one storage per reader,
which is not public. Here it is replaced by a new one, which is empty, and whose lock no thread of
the parent held at the fork. Instruments stay as they are.
"""

# ruff: noqa: SLF001 - see above

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource

from otel_coach.core import compatibility

if TYPE_CHECKING:
    from collections.abc import Mapping


class MeterReset:
    """Resets `provider` after a fork, if the SDK's private parts are as expected."""

    def __init__(self, provider: MeterProvider) -> None:
        self._provider: Any = provider
        self._instance = _resource(provider).get(SERVICE_INSTANCE_ID)
        self.is_possible = compatibility.holds(compatibility.STORAGES)

    def reset(self) -> bool:
        """Makes a child count from zero; returns False where that is not possible."""
        if not self.is_possible:
            return False
        _empty(self._provider)
        if _resource(self._provider).get(SERVICE_INSTANCE_ID) == self._instance:
            # This SDK gives a child no id of its own: its sums would replace the parent's.
            config = self._provider._sdk_config
            self._instance = f"{self._instance}-{os.getpid()}"
            config.resource = config.resource.merge(Resource({SERVICE_INSTANCE_ID: self._instance}))
        return True


def _resource(provider: Any) -> Mapping[str, object]:
    try:
        return provider._sdk_config.resource.attributes
    except AttributeError:
        return {}


def _empty(provider: Any) -> None:
    consumer = provider._measurement_consumer
    storages = consumer._reader_storages
    consumer._lock = threading.Lock()
    consumer._reader_storages = {
        reader: type(storage)(
            provider._sdk_config,
            reader._instrument_class_temporality,
            reader._instrument_class_aggregation,
        )
        for reader, storage in storages.items()
    }


def counts_from_zero() -> bool:
    """Returns whether `_empty` works: an existing instrument then counts from zero."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource.get_empty(), shutdown_on_exit=False)
    counter = provider.get_meter("otel_coach").create_counter("tried")
    counter.add(1)
    _empty(provider)
    counter.add(2)
    found: Any = reader.get_metrics_data()
    provider.shutdown()
    (point,) = found.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return point.value == 2  # noqa: PLR2004 - added after the reset
