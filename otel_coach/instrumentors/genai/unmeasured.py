"""Logs what the bill does not cover: one line for each model and reason, with the cure."""

from __future__ import annotations

import logging
from typing import Final

from otel_coach.core import traps
from otel_coach.metrics.labels import EXTRA_FEE, NO_PRICE, NO_USAGE, model_text, spoken

_logger = logging.getLogger("otel_coach")

_MAX_LINES: Final = 100
_TRAPS: Final = {NO_USAGE: traps.NO_USAGE, NO_PRICE: traps.NO_PRICE, EXTRA_FEE: traps.EXTRA_FEE}


class UnmeasuredLog:
    """Logs each reason once for each model; of many models, the first ones only.

    `logged` has the models and reasons that were logged.
    """

    def __init__(self, logged: set[tuple[str, str]] | None = None) -> None:
        self._logged = set[tuple[str, str]]() if logged is None else logged

    def note(self, model: str, reason: str, *details: str) -> None:
        """Logs that a call of `model` is unmeasured, if that is new."""
        if (model, reason) in self._logged or len(self._logged) >= _MAX_LINES:
            return
        self._logged.add((model, reason))
        name = model_text(model)
        line = _TRAPS[reason].found(
            calls="calls",
            model=spoken(name),
            label=name,
            details=f" ({', '.join(details)})" * bool(details),
        )
        _logger.warning("otel-coach: %s", line)
