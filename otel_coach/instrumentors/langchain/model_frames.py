"""Tells by the frames of the stack whether the code of LangChain's models is running.

A context variable cannot tell: a stream that is still open, or a call that was cancelled, for which
LangChain calls no callback, leaves its run current in the code that goes on after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_MODELS: Final = "langchain_core.language_models."
"""The package whose functions call the methods of every model."""


def is_inside_model(frame: FrameType | None) -> bool:
    """Returns whether a model's call is under way in `frame`, or in a frame that waits for it."""
    while frame is not None:
        if _is_of_models(frame):
            return True
        frame = frame.f_back
    return False


def is_inside_another_model(frame: FrameType | None) -> bool:
    """Returns whether a second model's call waits for the model's call that `frame` is in."""
    while frame is not None and not _is_of_models(frame):
        frame = frame.f_back
    while frame is not None and _is_of_models(frame):
        frame = frame.f_back
    return is_inside_model(frame)


def _is_of_models(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_MODELS)
