"""The HTTP request, or the turn of a WebSocket, to which the running code belongs.

The ASGI middleware opens a `Request`. The instrumentors of model libraries find it through the
context, also in worker threads, and note on it what they observe. So no instrumentor needs to know
another.
"""

from __future__ import annotations

import re
from asyncio import get_running_loop
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING

from otel_coach.core.plain import plain
from otel_coach.core.spans import start_of_clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from opentelemetry.context import Context

    from otel_coach.core.spans import HandedOver


_MODE = re.compile(r"[A-Za-z0-9_.-]{1,40}")


def stated_mode(value: object) -> str | None:
    """Returns `value` as the application's mode if it is a short identifier, else None."""
    text = plain(value)
    return text if isinstance(text, str) and _MODE.fullmatch(text) else None


class Request:
    """An HTTP request, with what is noted about the AI work inside it.

    Args:
        application: the application that answers the request.
    """

    # Class-level defaults for attributes that most requests never set: these cost nothing.
    is_in_socket = False
    """Whether this is a turn of a WebSocket; `turn_of` then says to which turn a run belongs."""
    is_ai = False
    closed = False
    """Whether the final body was sent; what starts later is background work, not part of the
    answer."""
    model: str | None = None
    """The model of the first model call."""
    mode: str | None = None
    labelled_mode: str | None = None
    """The mode of the last `labels` block that has ended in this request."""
    is_answering = False
    """Whether the response has started."""
    server_span: HandedOver | None = None
    """The server span, if another instrumentation makes and ends it."""
    abandoned_endpoint: str | None = None
    """The endpoint, once the client has left before the response was complete."""
    look_for_client: Callable[[], None] | None = None
    """Finds out whether the client has left, while the response is not complete."""
    run_failed = False
    """Whether the outermost run that started last has ended in an error."""
    _last_outermost: object = None

    def __init__(self, application: object) -> None:
        self.application = application
        self.start_of_clock = start_of_clock()
        self.thread = get_ident()
        """The thread of the server's event loop."""
        self.loop: AbstractEventLoop | None
        """The server's event loop; None if it is not asyncio's."""
        try:
            self.loop = get_running_loop()
        except RuntimeError:
            self.loop = None

    def ai_work_started(self, *, model: str | None = None, mode: str | None = None) -> None:
        """Notes that an agent or LLM run started; the first model and the first mode are kept."""
        if self.closed:
            return
        self.is_ai = True
        if model is not None:
            # Several threads may call a model at once: this list is made once, and keeps all.
            models: list[str] = vars(self).setdefault("_models", [])
            models.append(model)
            self.model = models[0]
        self.mode = self.mode or mode

    def take_back_call(self, model: str) -> None:
        """Notes that an LLM run that started was no call: a cache or other models answered it."""
        models: list[str] = vars(self).get("_models", [])
        if not self.closed and model in models:
            models.remove(model)
            self.model = models[0] if models else None

    def turn_of(self, parent: Request | None, context: Context) -> tuple[Request, Context]:
        """Returns the turn of a run that starts in `context`, and the context around that run.

        Called for turns of a WebSocket only; `parent` is the request of the run's parent.
        """
        del parent
        return self, context

    def client_has_left(self) -> bool:
        """Returns whether the client has left before the response was complete, as far as known."""
        if self.abandoned_endpoint is None and self.look_for_client is not None:
            self.look_for_client()
        return self.abandoned_endpoint is not None

    def look_in_loop(self, then: Callable[..., None], *arguments: object) -> bool:
        """Calls `then` soon in the event loop, where `client_has_left` can ask the server.

        Returns False, and calls nothing, if this is the event loop's thread, if the response is
        complete, or if asyncio's event loop does not run.
        """
        if self.closed or self.loop is None or get_ident() == self.thread:
            return False
        try:
            self.loop.call_soon_threadsafe(then, *arguments)
        except RuntimeError:  # it is closed
            return False
        return True

    def outermost_run_started(self, run: object) -> None:
        """Notes that a run without a parent started; only the last one can fail the request."""
        if not self.closed:
            self._last_outermost = run
            self.run_failed = False

    def embedding_started(self, run: object) -> None:
        """Notes that a call of an embedding model without a parent started."""

    def outermost_run_ended(self, run: object, *, failed: bool, was_aborted: bool) -> None:
        """Notes that a run without a parent ended: by itself, by an error, or aborted."""
        if run is self._last_outermost:
            self.run_failed = failed
            self._last_outermost = None  # the run refers to this request: avoids a reference cycle

    def run_aborted(self, run: object) -> None:
        """Notes that a run, outermost or not, was aborted; its span is still open."""


current_request: ContextVar[Request | None] = ContextVar("otel_coach_request", default=None)
current_application: ContextVar[object] = ContextVar("otel_coach_application", default=None)
"""The application in whose lifespan code runs; for a request, see `Request.application`."""
