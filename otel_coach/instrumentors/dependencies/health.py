"""Records the results of probes and checks, and keeps the last state of each dependency."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from otel_coach.core.copies import items_of
from otel_coach.core.guard import guarded
from otel_coach.metrics.catalogue import DEPENDENCY_LATENCY, DEPENDENCY_UP
from otel_coach.metrics.labels import ERROR, OK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_coach.metrics.recorder import Recorder

_logger = logging.getLogger("otel_coach")

_MAX_NAMES: Final = 1000


class Health:
    """Records results, and keeps the last state (up or down) of each dependency."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._up: dict[str, bool] = {}
        self._probed: dict[str, float] = {}
        recorder.observe(DEPENDENCY_UP, self._values, self._times)

    @guarded  # an error here must not make the application's check fail
    def note(self, name: str, seconds: float, error: str | None) -> None:
        """Records a probe of `name` that took `seconds`; `error` says why it failed, if it did."""
        up = error is None
        self.recorder.record(DEPENDENCY_LATENCY, seconds, (name, OK if up else ERROR))
        # Beyond the limit no state is kept, up or down; the probe is recorded all the same.
        is_over_limit = name not in self._up and len(self._up) >= _MAX_NAMES
        if not is_over_limit:
            self._note_state(name, error)
        self.recorder.flush()

    def _note_state(self, name: str, error: str | None) -> None:
        up = error is None
        if self._up.get(name, True) != up:
            if up:
                _logger.warning("otel-coach: dependency %s is up again", name)
            else:
                # The message of an exception may hold an address with a password.
                _logger.warning("otel-coach: dependency %s is down (%s)", name, error)
        self._up[name] = up
        self._probed[name] = monotonic()  # never adjusted, the same for all processes of a host

    def _values(self) -> Mapping[tuple[object, ...], float]:
        return {(name,): float(up) for name, up in items_of(self._up)}

    def _times(self) -> Mapping[tuple[object, ...], float]:
        return {(name,): at for name, at in items_of(self._probed)}


_active: Health | None = None


def activate(health: Health | None) -> None:
    """Makes `health` record the application's own checks; None stops recording them."""
    global _active  # noqa: PLW0603 - `watch_dependency` takes no instance
    _active = health


def note(name: str, seconds: float, error: str | None) -> None:
    """Records a check of the application; does nothing while otel-coach is not active."""
    if (health := _active) is not None:
        health.note(name, seconds, error)
