"""`labels`: the application's own mode for the AI work of a block, a function or a response."""

from __future__ import annotations

import inspect
import logging
import reprlib
from typing import cast

from otel_coach.core.around import Around
from otel_coach.core.open_blocks import OpenBlocks
from otel_coach.core.request_context import current_request, stated_mode
from otel_coach.metrics.labels import OTHER

_logger = logging.getLogger("otel_coach")
_is_logged = False


def labelled_mode() -> str | None:
    """Returns the mode of the innermost `labels` block that the current code is in, or None."""
    innermost = _open.innermost()
    return None if innermost is None else innermost.mode


def mode_of_response() -> str | None:
    """Returns the mode for work that states none and runs after a `labels` block, or None.

    A response is often made inside a block, but streamed after it. So once the response has
    started, the last block that has ended in the request applies.
    """
    request = current_request.get()
    return request.labelled_mode if request is not None and request.is_answering else None


class Labels(Around):
    """Sets the application's mode for the work inside it."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        _open.enter(self)

    def __exit__(self, *_raised: object) -> None:
        _open.leave(self)
        if (request := current_request.get()) is not None:
            request.labelled_mode = self.mode


_open: OpenBlocks[Labels] = OpenBlocks("otel_coach_labels")


def labels(mode: str) -> Labels:
    """Sets the application's mode for the AI work of a block, a function or a generator.

    A context manager and a decorator, for sync and async code::

        with labels(mode="planner"):
            return StreamingResponse(answer())

        @labels(mode="planner")
        async def plan(question: str) -> str: ...

    `mode` is a short identifier (`[A-Za-z0-9_.-]{1,40}`); anything else counts as `other`, which is
    logged once. It takes precedence over a mode in a run's metadata, in its `configurable` or in
    the graph's input. A response that is returned from the block is labelled to its end, as is its
    background work, unless their runs state a mode of their own.

    Raises:
        TypeError: `@labels` was written without a mode, and no request is running. Within a
            request, the mode is `other` instead, so that the request does not fail.
    """
    is_bare = inspect.isroutine(mode)
    if is_bare and current_request.get() is None:
        message = 'labels takes a mode: @labels(mode="planner")'
        raise TypeError(message)
    known = stated_mode(mode)
    if known is None:
        _log_once(mode)
    block = Labels(OTHER if known is None else known)
    return cast("Labels", block(mode)) if is_bare else block


def _log_once(mode: object) -> None:
    global _is_logged  # noqa: PLW0603 - once in a process
    if not _is_logged:
        _is_logged = True
        _logger.warning(
            "otel-coach: %s. Cure: %s",
            f"labels(mode={reprlib.repr(mode)}) cannot be a label and counts as {OTHER}",
            "use 1 to 40 of the characters A-Z a-z 0-9 _ . -",
        )
