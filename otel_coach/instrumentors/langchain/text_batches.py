"""Finds the calls of a text model that are prompts of one batch.

A provider answers a batch as a whole. langchain-core starts a run for each prompt, and puts the
usage of all of them on the first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from otel_coach.instrumentors.genai.model_call import PromptBatch

if TYPE_CHECKING:
    from collections.abc import Mapping


class TextBatches:
    """The batches of which some calls have not ended yet.

    langchain-core gives all runs of one batch the same parameters object, and each batch has an
    object of its own. Neither the order of the runs nor their thread identifies a batch: the starts
    of concurrent batches mix where an application has an asynchronous handler.
    """

    def __init__(self) -> None:
        self._open: WeakValueDictionary[int, _LangChainBatch] = WeakValueDictionary()

    def of(self, parameters: Mapping[str, object]) -> PromptBatch:
        """Returns the batch to which a run with `parameters` belongs."""
        batch = self._open.get(id(parameters))
        if batch is None:
            batch = self._open[id(parameters)] = _LangChainBatch(parameters)
        return batch


class _LangChainBatch(PromptBatch):
    def __init__(self, parameters: Mapping[str, object]) -> None:
        self._parameters = parameters  # keeps their id from being another object's
