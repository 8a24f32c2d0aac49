"""Finds the calls of a text model that are prompts of one batch.

A provider answers a batch as a whole. langchain-core starts a run for each prompt, and puts the
usage of all of them on the first one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_coach.instrumentors.genai.model_call import ModelCall

_MAX_OPEN: Final = 100


class TextBatches:
    """The batches of which some prompts have not started yet.

    langchain-core starts the runs of a batch one right after the other, in one thread, each with
    the same serialized model and the size of the batch.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[ModelCall, int]] = {}
        """The first call of a batch and how many prompts are to come, by thread and model."""

    def first(self, serialized: object, call: ModelCall, size: int) -> ModelCall | None:
        """Returns the first call of the batch of `call`, None if that is `call` itself."""
        key = threading.get_ident(), id(serialized)
        first, left = self._open.pop(key, (call, size))
        if left > 1:
            self._open[key] = first, left - 1
        if len(self._open) > _MAX_OPEN:  # batches that were broken off while they started
            self._open.clear()
        return None if first is call else first
