"""Refuses the next call by a provider's package in work that is stopped."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replaced
from otel_coach.core.stopping import current_stop, refuse, refuse_async
from otel_coach.instrumentors.genai.enclosing import enclosing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_coach.core.stopping import Stop
    from otel_coach.instrumentors.genai.client_calls import ClientCalls


def refusing(calls: ClientCalls, client: type, *, is_async: bool) -> Callable[[], None]:
    """Patches `request` of the class `client`; returns the undo function."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            stop = current_stop()
            if stop is not None and _is_refused(calls, stop, args, kwargs):
                return refuse_async(stop) if is_async else refuse(stop)
            return original(self, *args, **kwargs)

        return request

    return replaced(client, "request", make)


@guarded
def _is_refused(
    calls: ClientCalls, stop: Stop, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
    if not stop.is_on or not calls.is_call(args, kwargs):
        return False
    around = enclosing().run
    return stop.refuses(around, is_outermost=around is None)
