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
    nobody = {
        module.CallbackManagerForLLMRun: _told,
        module.AsyncCallbackManagerForLLMRun: _told_async,
    }
    return [
        replaced(manager, "on_llm_new_token", partial(_noting, who=who, told_nobody=told_nobody))
        for manager, told_nobody in nobody.items()
    ]


def _noting(original: Any, who: Listening, told_nobody: Callable[[], Any]) -> Any:
    @wraps(original)
    def on_llm_new_token(self: Any, token: Any, *, chunk: Any = None, **kwargs: Any) -> Any:
        ours = who.listener
        others = self if ours is None else ours.note(self, token, chunk)
        return told_nobody() if others is None else original(others, token, chunk=chunk, **kwargs)

    return on_llm_new_token


def _told() -> None:
    """There was no other handler."""


async def _told_async() -> None:
    """As above, for who awaits it."""
