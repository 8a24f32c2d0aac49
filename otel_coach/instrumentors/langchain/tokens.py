"""The chunks of streamed calls, noted before langchain-core hands them to the handlers.

It hands each chunk to one handler after the other, by way of three coroutines: several times the
cost of what there is to note. So our handler gets them here, and langchain-core serves the others.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Protocol

from otel_coach.patches import replaced

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener(Protocol):
    """Who notes chunks."""

    def note(self, manager: Any, token: Any, chunk: Any) -> Any:
        """Note a chunk of the run of `manager`; through whom the others are to be told of it.

        None where there is nobody else.
        """
        ...


class Listening(Protocol):
    """Who has a listener, or none for now."""

    @property
    def listener(self) -> Listener | None:
        """That notes chunks now."""
        ...


def watch_tokens(module: Any, who: Listening) -> list[Callable[[], None]]:
    """Let the listener of `who` note each chunk, of langchain-core's module of callback managers.

    What is returned undoes it.
    """
    noting = {
        module.CallbackManagerForLLMRun: _noting,
        module.AsyncCallbackManagerForLLMRun: _noting_async,
    }
    return [
        replaced(manager, "on_llm_new_token", partial(make, who=who))
        for manager, make in noting.items()
    ]


def _noting(original: Any, who: Listening) -> Any:
    @wraps(original)
    def on_llm_new_token(self: Any, token: Any, *, chunk: Any = None, **kwargs: Any) -> Any:
        ours = who.listener
        others = self if ours is None else ours.note(self, token, chunk)
        return None if others is None else original(others, token, chunk=chunk, **kwargs)

    return on_llm_new_token


def _noting_async(original: Any, who: Listening) -> Any:
    @wraps(original)
    async def on_llm_new_token(self: Any, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        ours = who.listener
        others = self if ours is None else ours.note(self, token, chunk)
        if others is not None:
            await original(others, token, chunk=chunk, **kwargs)

    return on_llm_new_token
