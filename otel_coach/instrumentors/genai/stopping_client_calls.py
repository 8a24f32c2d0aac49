"""Refuses and ends calls by a provider's package in work that is stopped."""

from __future__ import annotations

from asyncio import CancelledError
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replace_method
from otel_coach.core.stopping import (
    StoppedError,
    await_outermost,
    current_stop,
    refuse,
    refuse_async,
    replacement_for,
)
from otel_coach.instrumentors.genai.client_calls import owners_of_request
from otel_coach.instrumentors.genai.direct_embedding import EmbeddingPart
from otel_coach.instrumentors.genai.enclosing import enclosing
from otel_coach.instrumentors.genai.watched_stream import watched_iterator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_coach.core.stopping import Stop
    from otel_coach.instrumentors.genai.client_calls import ClientCalls
    from otel_coach.instrumentors.genai.runs import Run


class StoppingClientCalls:
    """Patches around those of `ClientCalls`; they are made only where stopping is asked for."""

    def __init__(self, calls: ClientCalls) -> None:
        self._calls = calls
        self.recorder = calls.recorder

    def patch(self, client: type, *, is_async: bool) -> Iterable[Callable[[], None]]:
        """Patches the same classes as `ClientCalls`; yields the undo functions.

        The base class is among them, for clients that share only that one (`AnthropicBedrock`).
        """
        for owner in owners_of_request([client]):
            yield replace_method(
                owner, "request", self._asynchronous if is_async else self._synchronous
            )

    def _synchronous(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            around, stop = self.run_around(), current_stop()
            if stop is not None and self.is_refused(stop, around, args, kwargs):
                refuse(stop, is_outermost=around is None)
            answer = original(client, *args, **kwargs)
            if (stop := current_stop()) is not None:  # the call itself may have been the first run
                self.check_chunks(answer, partial(self._end_if_stopped, stop))
            return answer

        return request

    def _asynchronous(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            around, stop = self.run_around(), current_stop()
            if stop is not None and self.is_refused(stop, around, args, kwargs):
                await refuse_async(stop, is_outermost=around is None)
            asked = original(client, *args, **kwargs)
            answer = await (await_outermost(asked) if around is None else asked)
            if (stop := current_stop()) is not None:
                self.check_chunks(answer, partial(self._end_if_cancelled, stop))
                if around is None:
                    self.replace_error_at_end(answer)
            return answer

        return request

    @guarded
    def run_around(self) -> Run | None:
        """Returns the open run in which the current code runs."""
        return enclosing().run

    @guarded
    def is_refused(
        self, stop: Stop, around: Run | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Returns whether a request is a call that is not to begin."""
        if not stop.is_on or not self._calls.is_call(args, kwargs):
            return False
        return stop.refuses(around, is_outermost=around is None)

    @guarded
    def check_chunks(self, answer: Any, check: Callable[[Any], None]) -> None:
        """Calls `check` with the call at each chunk of a stream; what it raises ends the stream."""
        if (watched := watched_iterator(answer)) is not None:
            watched.check = check

    def _end_if_stopped(self, stop: Stop, call: Any) -> None:
        """Ends the stream of a thread, which cannot be cancelled."""
        if self.is_stopped(stop, call):
            raise StoppedError

    def _end_if_cancelled(self, stop: Stop, call: Any) -> None:
        """Ends the stream of a task that goes on although it has been cancelled."""
        if stop.is_on and self.has_lost_cancellation(stop, call):
            raise CancelledError

    @guarded
    def has_lost_cancellation(self, stop: Stop, call: Any) -> bool:
        """Returns whether the current task was cancelled while it reads an open call."""
        return stop.has_lost_cancellation(call)

    @guarded
    def is_stopped(self, stop: Stop, call: Any) -> bool:
        """Returns whether an open call is to end."""
        return stop.is_on and stop.refuses(call, is_outermost=False)

    @guarded
    def replace_error_at_end(self, answer: Any) -> None:
        """Makes an outermost stream that a task reads raise the replacement, if it is stopped."""
        if (watched := watched_iterator(answer)) is not None:
            watched.replace = self.replacement_for

    @guarded
    def replacement_for(self, call: Any, error: BaseException) -> list[BaseException]:
        """Returns a list of what the application gets in place of `error`, if anything."""
        return [] if isinstance(call, EmbeddingPart) else replacement_for(error, current_stop())
