"""Records AI requests: their durations, their streams, and the series that alerts need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.metrics.catalogue import (
    AI_ABANDONED_COST,
    AI_ABANDONED_TOKENS,
    AI_REQUEST_DURATION,
    AI_STREAM_ABORTS,
    AI_STREAM_CHUNKS,
    AI_TIME_TO_FIRST_CHUNK,
)
from otel_coach.metrics.labels import ABORTED, COMPLETION, INVOKE, NO_MODEL, PROMPT, STREAM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.context import Context

    from otel_coach.core.request_context import Request
    from otel_coach.metrics.recorder import Recorder

MAX_REMEMBERED: Final = 1000
"""How many endpoints with a series are remembered; an application may keep creating routes."""
_WITHOUT_BODY: Final = frozenset({*range(100, 200), 204, 304})
"""The statuses whose answers have no body: RFC 9110, 6.4.1."""


def may_have_body(method: str, status: int | None) -> bool:
    """Returns whether a body follows `status`, which is None before the answer has begun.

    If not, a client that leaves after the status has its whole answer.
    """
    return status is None or (method != "HEAD" and status not in _WITHOUT_BODY)


def is_stream(method: str, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Returns whether an answer that begins so may have a body, and does not say how long it is."""
    # Does what `may_have_body` does: test_work.py limits the functions that a request calls.
    if method == "HEAD" or status in _WITHOUT_BODY:
        return False
    for name, _ in headers:  # noqa: SIM110 - `any` takes 0.23 µs more, of a request's 15 µs
        if name.lower() == b"content-length":
            return False
    return True


class Stream(NamedTuple):
    """The streamed response of an AI request."""

    chunks: int
    """Body chunks that were handed to the client."""
    first_chunk: float | None
    """Seconds from the start of the request to the first of them, None if there was none."""


class AiRequests:
    """Records the AI requests of a process.

    Args:
        recorder: records the measurements.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.have_streamed: set[str] = set()
        """Endpoints that have streamed AI work; their gauge is 0 while no stream is open."""
        self._models: set[tuple[str, str]] = set()
        """Endpoints with their models, whose series of abandoned calls exist."""

    def record(  # noqa: PLR0913, PLR0917 - the facts of one request
        self,
        request: Request,
        endpoint: str,
        outcome: str,
        seconds: float,
        stream: Stream | None,
        context: Context | None,
    ) -> None:
        """Records one AI request, at its end."""
        record = self._recorder.record
        mode = request.mode or (INVOKE if stream is None else STREAM)
        labels = (endpoint, request.model or NO_MODEL, mode)
        record(AI_REQUEST_DURATION, seconds, (*labels, outcome), context)
        # An alert's rate() needs the series before the first abandoned call, or the first abort.
        model = labels[:2]
        if model not in self._models and len(self._models) < MAX_REMEMBERED:
            self._models.add(model)
            record(AI_ABANDONED_COST, 0, model)
            for tokens in (PROMPT, COMPLETION):
                record(AI_ABANDONED_TOKENS, 0, (*model, tokens))
        if stream is None:
            return
        if len(self.have_streamed) < MAX_REMEMBERED:
            self.have_streamed.add(endpoint)
        record(AI_STREAM_CHUNKS, stream.chunks, (*labels, outcome), context)
        record(AI_STREAM_ABORTS, int(outcome == ABORTED), (*labels, ABORTED), context)
        if stream.first_chunk is not None:
            record(AI_TIME_TO_FIRST_CHUNK, stream.first_chunk, labels, context)
