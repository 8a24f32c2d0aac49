"""Finds the run of a framework inside of which a provider's package is called.

A framework's instrumentor registers a function here that finds its innermost run. So the
instrumentors of provider packages need not know any framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from opentelemetry import context as otel_context

from otel_coach.core.spans import CURRENT_RUN
from otel_coach.metrics.mode_label import labelled_mode, mode_of_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.instrumentors.genai.runs import Run

    Finder = Callable[[], "Enclosing | None"]


class Enclosing(NamedTuple):
    """Where a call is made."""

    run: Run | None
    """The innermost open run around the call; None if the call is an outermost run itself."""
    mode: str | None
    """The application's mode, None if it states none."""


_finders: Final[list[Finder]] = []


def register(find: Finder) -> Callable[[], None]:
    """Adds `find`, which returns the framework's run around the calling code, or None.

    Returns the undo function.
    """
    _finders.append(find)

    def undo() -> None:
        if find in _finders:
            _finders.remove(find)

    return undo


def enclosing() -> Enclosing:
    """Returns the run around the calling code, and the application's mode there."""
    for find in _finders:
        if (found := find()) is not None:
            return found
    # No framework knows of a run: the one that is current in the context.
    return Enclosing(open_run(), labelled_mode() or mode_of_response())


def open_run() -> Run | None:
    """Returns the innermost open run around the calling code, as far as the context has it."""
    run: Any = otel_context.get_value(CURRENT_RUN)
    while run is not None and run.ended:
        run = run.parent
    return cast("Run | None", run)
