"""Refuses the next call by a provider's package in work that is stopped."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replaced
from otel_coach.core.stopping import StoppedError, current_stop
from otel_coach.instrumentors.genai.enclosing import enclosing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otel_coach.instrumentors.genai.client_calls import ClientCalls


def refusing(calls: ClientCalls, client: type, *, is_async: bool) -> Iterator[Callable[[], None]]:
    """Patches `request` of the class `client`; yields the undo function."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            if current_stop() is not None and _is_refused(calls, args, kwargs):
                if is_async:
                    return _refused()
                raise StoppedError
            return original(self, *args, **kwargs)

        return request

    yield replaced(client, "request", make)


async def _refused() -> Any:
    raise StoppedError


@guarded
def _is_refused(calls: ClientCalls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    stop = current_stop()
    if stop is None or not stop.is_on or not calls.is_call(args, kwargs):
        return False
    around = enclosing().run
    return stop.refuses(around, is_outermost=around is None)
