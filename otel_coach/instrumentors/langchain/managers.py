"""langchain-core's callback managers, through which every run goes, tell an observer of each.

Handlers are told by way of several coroutines for each event, and asked at each step what they
are. The managers' own methods are called in any case, by the code that holds the run.
"""

from __future__ import annotations

from functools import partial, wraps
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_coach import compatibility
from otel_coach.instrumentors.langchain.trials import ENDS, FLAVOURS, STARTS
from otel_coach.patches import replaced

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from otel_coach.instrumentors.langchain.observer import RunObserver

_PARTS: Final = {
    "Chain": compatibility.CHAINS,
    "LLM": compatibility.MODELS,
    "Retriever": compatibility.RETRIEVERS,
    "Tool": compatibility.TOOLS,
}
"""What is relied on, by kind of run."""
_EVENT: Final = "on_stream_event"
"""Of `astream_events(version="v3")`; a langchain-core without that has none."""
_MAY_BE_HELD: Final = frozenset({"on_chat_model_start", "on_llm_start", "on_tool_start"})


class Observed(Protocol):
    """Who has an observer, or none for now."""

    @property
    def observer(self) -> RunObserver | None:
        """That is told; its methods have the names of langchain-core's."""
        ...


def observed(module: Any, who: Observed) -> Iterator[Callable[[], None]]:
    """Have the observer of `who` told of all runs, by langchain-core's module of managers.

    Of a kind of run whose methods are not as they were, none is replaced: the others are measured
    all the same. What is yielded undoes it, method by method.
    """
    for kind, part in _PARTS.items():
        if compatibility.holds(part):
            for flavour in FLAVOURS:
                yield from _observed_kind(module, flavour, kind, who)


def _observed_kind(
    module: Any, flavour: str, kind: str, who: Observed
) -> Iterator[Callable[[], None]]:
    starting = _starting_async if flavour else _starting
    manager = getattr(module, f"{flavour}CallbackManager")
    for name in STARTS[kind]:
        yield replaced(manager, name, partial(starting, name=name, who=who))
    of_run = getattr(module, f"{flavour}CallbackManagerFor{kind}Run")
    for name in ENDS[kind]:
        yield replaced(of_run, name, partial(_reporting, name=name, who=who))
    if kind == "LLM":
        if hasattr(of_run, _EVENT):
            yield replaced(of_run, _EVENT, partial(_reporting, name=_EVENT, who=who))
        if compatibility.holds(compatibility.TOKENS):
            yield replaced(of_run, "on_llm_new_token", partial(_noting, who=who))


def _starting(original: Callable[..., Any], name: str, who: Observed) -> Callable[..., Any]:
    @wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(self, *args, **kwargs)
        if (ours := who.observer) is not None:
            getattr(ours, name)(made, None, *args, **kwargs)
        return made

    return start


def _starting_async(original: Callable[..., Any], name: str, who: Observed) -> Callable[..., Any]:
    may_be_held = name in _MAY_BE_HELD

    @wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        starting = original(self, *args, **kwargs)
        if (ours := who.observer) is None:
            return starting
        # Not asked by the coroutine, which may be run by a task of `asyncio.gather`.
        task = ours.holder() if may_be_held else None
        tell = getattr(ours, name)
        if isawaitable(starting):
            return _started(starting, tell, task, args, kwargs)
        tell(starting, task, *args, **kwargs)
        return starting

    return start


async def _started(
    starting: Awaitable[Any],
    tell: Callable[..., None],
    task: asyncio.Task[Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    made = await starting
    tell(made, task, *args, **kwargs)
    return made


def _reporting(original: Callable[..., Any], name: str, who: Observed) -> Callable[..., Any]:
    """Of a coroutine function too: what it reports is known before it is awaited."""

    @wraps(original)
    def report(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (ours := who.observer) is not None:
            getattr(ours, name)(self, *args, **kwargs)
        return original(self, *args, **kwargs)

    return report


def _noting(original: Callable[..., Any], who: Observed) -> Callable[..., Any]:
    """As `_reporting`, for each chunk: without what that costs more."""

    @wraps(original)
    def on_llm_new_token(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (ours := who.observer) is not None:
            ours.note(self, args, kwargs)
        return original(self, *args, **kwargs)

    return on_llm_new_token
