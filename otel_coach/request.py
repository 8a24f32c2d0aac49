"""What is known of the HTTP request in whose context code runs.

The ASGI layer opens a `Request`, LangChain's callbacks find it through the context, also in
worker threads, and note what they see. Facts go down; nobody asks upward.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from otel_coach.tracing import start_of_clock
from otel_coach.vocabulary import stated_mode

if TYPE_CHECKING:
    from collections.abc import Generator

    from otel_coach.tracing import HandedOver


class Request:
    """The facts that AI work leaves on the request in which it runs.

    Args:
        application: that answers it.
    """

    # What most requests leave as it is stands in the class, and costs them nothing.
    is_ai = False
    closed = False
    """The final body was sent: what starts now is background work, not part of the answer."""
    model: str | None = None
    mode: str | None = None
    server_span: HandedOver | None = None
    """The server span where another instrumentation makes and ends it."""
    run_failed = False
    """Whether the outermost run that started last ended in error."""
    _last_outermost: object = None

    def __init__(self, application: object) -> None:
        self.application = application
        self.start_of_clock = start_of_clock()

    def ai_work_started(self, *, model: str | None = None, mode: str | None = None) -> None:
        """An agent or LLM run started. The first model and the first mode name the request."""
        if self.closed:
            return
        self.is_ai = True
        self.model = self.model or model
        self.mode = self.mode or mode

    def outermost_run_started(self, run: object) -> None:
        """A run that has no parent started; only the last such run can fail the request."""
        if not self.closed:
            self._last_outermost = run
            self.run_failed = False

    def outermost_run_ended(self, run: object, *, failed: bool) -> None:
        """An outermost run ended."""
        if run is self._last_outermost:
            self.run_failed = failed
            self._last_outermost = None  # which knows this request, too


current_request: ContextVar[Request | None] = ContextVar("otel_coach_request", default=None)
current_application: ContextVar[object] = ContextVar("otel_coach_application", default=None)
"""The application in whose lifespan code runs; in a request it is the request's."""
_mode: ContextVar[str | None] = ContextVar("otel_coach_mode", default=None)


@contextmanager
def labels(*, mode: str) -> Generator[None]:
    """State the application's mode for the AI work inside the block.

    `mode` is a short identifier (`[A-Za-z0-9_.-]{1,40}`) and wins over what a run's metadata,
    its configurable or the graph's input say.

    Raises:
        ValueError: `mode` is not such an identifier.
    """
    if stated_mode(mode) is None:
        message = (
            f"mode={mode!r} cannot be a label: use 1 to 40 of the characters A-Z a-z 0-9 _ . -"
        )
        raise ValueError(message)
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def labelled_mode() -> str | None:
    """The mode that `labels` states for the code that runs now."""
    return _mode.get()
