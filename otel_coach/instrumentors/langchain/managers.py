"""langchain-core's callback managers, through which every run goes, tell an observer of each.

Handlers are told by way of several coroutines for each event, and asked at each step what they
are. The managers' own methods are called in any case, by the code that holds the run.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_coach.patches import replaced

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from otel_coach.instrumentors.langchain.observer import RunObserver

STARTS: Final = (
    *("on_chain_start", "on_chat_model_start", "on_llm_start"),
    *("on_retriever_start", "on_tool_start"),
)
"""What a manager starts; each returns the manager of the run, those of models a list of them."""

REPORTS: Final = {
    "Chain": ("on_chain_end", "on_chain_error"),
    "LLM": ("on_llm_end", "on_llm_error", "on_stream_event"),
    "Retriever": ("on_retriever_end", "on_retriever_error"),
    "Tool": ("on_tool_end", "on_tool_error"),
}
"""What the manager of a run is told of it, by kind of run."""

_NEWEST: Final = "on_stream_event"
"""Older versions of langchain-core have all but this."""
_MAY_BE_HELD: Final = frozenset({"on_chat_model_start", "on_llm_start", "on_tool_start"})


class Observed(Protocol):
    """Who has an observer, or none for now."""

    @property
    def observer(self) -> RunObserver | None:
        """That is told; its methods have the names of langchain-core's."""
        ...


def observed(module: Any, who: Observed) -> Iterator[Callable[[], None]]:
    """Have the observer of `who` told of all runs, by langchain-core's module of managers.

    What is yielded undoes it, method by method.

    Raises:
        AttributeError, KeyError: the module is of a version that has others.
    """
    for prefix, starting in (("", _starting), ("Async", _starting_async)):
        manager = getattr(module, f"{prefix}CallbackManager")
        for name in STARTS:
            yield replaced(manager, name, partial(starting, name=name, who=who))
        for kind, names in REPORTS.items():
            of_run = getattr(module, f"{prefix}CallbackManagerFor{kind}Run")
            for name in names:
                if name in vars(of_run) or name != _NEWEST:
                    yield replaced(of_run, name, partial(_reporting, name=name, who=who))
        of_run = getattr(module, f"{prefix}CallbackManagerForLLMRun")
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
    def start(self: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        starting = original(self, *args, **kwargs)
        if (ours := who.observer) is None:
            return starting
        # Not asked by the coroutine, which may be run by a task of `asyncio.gather`.
        task = ours.holder() if may_be_held else None
        return _started(starting, getattr(ours, name), task, args, kwargs)

    return start


async def _started(
    starting: Coroutine[Any, Any, Any],
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
    def on_llm_new_token(self: Any, token: Any, *, chunk: Any = None, **kwargs: Any) -> Any:
        if (ours := who.observer) is not None:
            ours.note(self.run_id, token, chunk)
        return original(self, token, chunk=chunk, **kwargs)

    return on_llm_new_token
