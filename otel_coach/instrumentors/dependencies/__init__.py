"""Health of the service's dependencies: probes, and the application's own checks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from otel_coach.core.guard import guarded
from otel_coach.instrumentors.base import Instrumentor
from otel_coach.instrumentors.dependencies.health import Health, activate
from otel_coach.metrics.labels import DEPENDENCY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_coach.instrumentors.base import OnceForAll
    from otel_coach.instrumentors.dependencies.periodic_probe import PeriodicProbe
    from otel_coach.metrics.recorder import Recorder

    class ProbeArguments(TypedDict):
        """The arguments of `DependenciesInstrumentor`; the addresses by name, times in seconds."""

        recorder: Recorder
        addresses: Mapping[str, str]
        interval: float
        timeout: float


_logger = logging.getLogger("otel_coach")


class DependenciesInstrumentor(Instrumentor):
    """Probes the dependencies, each in threads of its own, outside of every event loop.

    `instrument` takes `ProbeArguments`. Probing begins with `start`, in a process that serves.
    """

    _health: Health
    _probes: list[PeriodicProbe]

    @property
    def recorder(self) -> Recorder:
        """The recorder, which counts otel-coach's own errors."""
        return self._health.recorder

    def _instrument(self, **kwargs: Unpack[ProbeArguments]) -> None:
        self._health = health = Health(kwargs["recorder"])
        activate(health)
        self._probes = []
        addresses = kwargs.get("addresses", {})
        health.recorder.reserve(DEPENDENCY_NAME, addresses)
        if addresses:
            self._probes += self._probes_of(addresses, kwargs["interval"], kwargs["timeout"])

    def _probes_of(
        self, addresses: Mapping[str, str], interval: float, timeout: float
    ) -> Iterator[PeriodicProbe]:
        # Imported only where there is something to probe.
        from otel_coach.instrumentors.dependencies.periodic_probe import PeriodicProbe  # noqa: PLC0415
        from otel_coach.instrumentors.dependencies.probes import UnknownAddressError, probe_of  # noqa: PLC0415

        for name, address in addresses.items():
            try:
                probe = probe_of(address)
            except UnknownAddressError as error:
                _logger.error(  # noqa: TRY400 - one line with the cure
                    "otel-coach: OTEL_COACH_DEPENDENCIES: %s %s; it is not probed", name, error
                )
                continue
            yield PeriodicProbe(self._health, name, probe, interval, timeout)

    @guarded
    def start(self, once_for_all: OnceForAll) -> None:
        """Starts the probes, in only one process of the service."""
        once_for_all("probes", self._start_probes)

    def _start_probes(self) -> None:
        for probe in self._probes:
            probe.start()

    def _uninstrument(self, **_kwargs: Any) -> None:
        activate(None)
        for probe in self._probes:
            probe.stop()
        self._probes.clear()
