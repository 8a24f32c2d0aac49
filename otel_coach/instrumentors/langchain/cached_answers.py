"""Recognises answers that come from LangChain's own cache: there was no call."""

from __future__ import annotations

from copy import copy
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replace_method
from otel_coach.instrumentors.genai.billing import generations_of
from otel_coach.instrumentors.genai.usage_blocks import as_mapping

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.metrics.recorder import Recorder

CONVERT: Final = "_convert_cached_generations"
"""The method of a chat model by which langchain-core prepares what a cache has found."""


class CachedAnswers:
    """The generations that LangChain's caches have answered with, as long as they are in use.

    langchain-core marks a message from a cache with a total cost of 0 in its usage, except where
    the cache has kept the text only, as semantic caches do.

    Args:
        recorder: counts otel-coach's own faults.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._generations: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def watch(self, chat_model: type) -> Callable[[], None]:
        """Patches langchain-core's `BaseChatModel`; returns the undo function."""
        return replace_method(chat_model, CONVERT, partial(_noting, answers=self))

    @guarded
    def copied(self, generations: list[Any]) -> list[Any]:
        """Returns copies of what a cache has found.

        LangChain's in-memory cache keeps the very objects of the first answer, and langchain-core
        marks those that it finds there as cached. Without copies, a call that has stored them and
        not returned yet would seem to be answered by the cache, too.
        """
        return [*map(copy, generations)]

    @guarded
    def note(self, generations: list[Any]) -> None:
        """Notes what a cache has answered with."""
        for generation in generations:
            self._generations[id(generation)] = generation

    def includes(self, response: object, run_id: object) -> bool:
        """Returns whether a cache answered the run."""
        return is_marked(response, run_id) or any(
            self._generations.get(id(one)) is one for one in generations_of(response)
        )


def is_marked(response: object, run_id: object) -> bool:
    """Returns whether langchain-core has marked the answer of the run as one from a cache.

    In its older versions, such a message has the id of the run that it originally answered.
    """
    found = (getattr(one, "message", None) for one in generations_of(response))
    messages = [message for message in found if message is not None]
    if _core_marks_cached():
        usages = (as_mapping(getattr(message, "usage_metadata", None)) for message in messages)
        return any(usage is not None and usage.get("total_cost") == 0 for usage in usages)
    ids = (str(getattr(message, "id", None)) for message in messages)
    return any(one.startswith("run-") and str(run_id) not in one for one in ids)


def _noting(original: Callable[..., Any], answers: CachedAnswers) -> Callable[..., Any]:
    @wraps(original)
    def convert(chat_model: Any, cache_val: Any, *args: Any, **kwargs: Any) -> Any:
        generations = original(chat_model, answers.copied(cache_val) or cache_val, *args, **kwargs)
        answers.note(generations)
        return generations

    return convert


@cache
def _core_marks_cached() -> bool:
    from langchain_core.language_models.chat_models import BaseChatModel  # noqa: PLC0415 - not while LangChain loads

    return hasattr(BaseChatModel, "_convert_cached_generations")
