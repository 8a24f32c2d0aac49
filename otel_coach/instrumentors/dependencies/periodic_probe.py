"""Probes a dependency at regular intervals, outside of every event loop."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_coach.core.guard import OwnThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.instrumentors.dependencies.health import Health
    from otel_coach.instrumentors.dependencies.probes import Probe

_NOT_FINISHED: Final = "TimeoutError"


class PeriodicProbe:
    """Probes one dependency every `interval` seconds.

    The dependency is down if a probe fails or takes longer than `timeout` seconds. There are two
    threads: one waits for the next interval, the other runs the probe and may hang in it. While a
    probe hangs, no second one is started, and the dependency stays down.
    """

    def __init__(
        self, health: Health, name: str, probe: Probe, interval: float, timeout: float
    ) -> None:
        self._health = health
        self._name = name
        self._probe = probe
        self._interval = interval
        self._timeout = timeout
        self._stopped = threading.Event()
        self._attempt: _Attempt | None = None

    def start(self) -> None:
        """Starts the thread that probes at each interval."""
        fault = self._health.recorder.fault
        OwnThread(self._probe_at_intervals, f"otel-coach-probe-{self._name}", fault).start()

    def stop(self) -> None:
        """Starts no further probe; a running one is not interrupted."""
        self._stopped.set()

    def _probe_at_intervals(self) -> None:
        while True:
            started = perf_counter()
            try:
                self._probe_once()
            except BaseException as fault:  # noqa: BLE001 - the next interval tries again
                self._health.recorder.fault(fault, "PeriodicProbe")
            if self._stopped.wait(max(0.0, self._interval - (perf_counter() - started))):
                return

    def _probe_once(self) -> None:
        if self._attempt is not None and not self._attempt.finished.is_set():
            self._health.note(self._name, self._timeout, _NOT_FINISHED)
            return
        self._attempt = attempt = _Attempt(self._probe, self._timeout, self._health.recorder.fault)
        if attempt.finished.wait(self._timeout):
            self._health.note(self._name, attempt.seconds, attempt.error)
        else:
            self._health.note(self._name, self._timeout, _NOT_FINISHED)


class _Attempt:
    """One run of the probe, in a thread that may hang forever."""

    def __init__(
        self, probe: Probe, timeout: float, fault: Callable[[BaseException, str], None]
    ) -> None:
        self.finished = threading.Event()
        self.seconds = 0.0
        self.error: str | None = None
        self._probe = probe
        self._timeout = timeout
        OwnThread(self._run, "otel-coach-probe", fault).start()

    def _run(self) -> None:
        started = perf_counter()
        try:
            with suppress_instrumentation():  # probes are not calls by the application
                self._probe(self._timeout)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, the dependency is down
            self.error = type(error).__name__
        self.seconds = perf_counter() - started
        self.finished.set()
