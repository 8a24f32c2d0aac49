"""OpenTelemetry's Prometheus reader, kept away from the application's registry."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import REGISTRY

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PARAMETERS: Final = frozenset(signature(PrometheusMetricReader).parameters)
"""Parameters of the installed version of OpenTelemetry's reader. `registry` was added in 0.63,
`scope_info_enabled` in 0.64; earlier versions wrote no scope labels."""


def gets_metrics() -> bool:
    """Returns whether OpenTelemetry's reader has the private method that is used here."""
    return callable(getattr(PrometheusMetricReader, "_receive_metrics", None))


class IsolatedReader(PrometheusMetricReader):
    """Is registered with `registry` only, and writes no scope labels."""

    def __init__(self, registry: CollectorRegistry, *, disable_target_info: bool) -> None:
        arguments: dict[str, Any] = {"registry": registry, "scope_info_enabled": False}
        supported = {name: value for name, value in arguments.items() if name in _PARAMETERS}
        super().__init__(disable_target_info, **supported)
        self._own_registry = registry
        if "registry" not in _PARAMETERS:
            # These versions know the default registry only, which belongs to the application.
            REGISTRY.unregister(self._collector)
            registry.register(self._collector)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if "registry" in _PARAMETERS:
            super().shutdown(timeout_millis, **kwargs)
        else:
            self._own_registry.unregister(self._collector)
