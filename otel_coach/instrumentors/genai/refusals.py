"""Refuses the next call by a provider's package in work that is stopped."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replaced
from otel_coach.core.stopping import current_stop, refuse, refuse_async, told_if_stopped
from otel_coach.instrumentors.genai.enclosing import enclosing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_coach.core.stopping import Stop
    from otel_coach.instrumentors.genai.client_calls import ClientCalls
    from otel_coach.instrumentors.genai.runs import Run


def refusing(calls: ClientCalls, client: type, *, is_async: bool) -> Callable[[], None]:
    """Patches `request` of the class `client`; returns the undo function."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return (_asynchronous if is_async else _synchronous)(calls, original)

    return replaced(client, "request", make)


def _synchronous(calls: ClientCalls, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        around, stop = _run_around(calls), current_stop()
        if stop is not None and _is_refused(calls, stop, around, args, kwargs):
            refuse(stop, is_outermost=around is None)
        return original(self, *args, **kwargs)

    return request


def _asynchronous(calls: ClientCalls, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        around, stop = _run_around(calls), current_stop()
        if stop is not None and _is_refused(calls, stop, around, args, kwargs):
            await refuse_async(stop, is_outermost=around is None)
        answer = original(self, *args, **kwargs)
        return await (told_if_stopped(answer) if around is None else answer)

    return request


@guarded
def _run_around(_calls: ClientCalls) -> Run | None:
    return enclosing().run


@guarded
def _is_refused(
    calls: ClientCalls,
    stop: Stop,
    around: Run | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> bool:
    if not stop.is_on or not calls.is_call(args, kwargs):
        return False
    return stop.refuses(around, is_outermost=around is None)
