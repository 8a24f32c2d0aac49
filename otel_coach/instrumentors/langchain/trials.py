"""Tries the parts of langchain-core and LangGraph that `compatibility` lists."""

from __future__ import annotations

import inspect
import weakref
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS: Final = {
    "Chain": ("on_chain_start",),
    "LLM": ("on_chat_model_start", "on_llm_start"),
    "Retriever": ("on_retriever_start",),
    "Tool": ("on_tool_start",),
}
"""What a manager starts, by kind of run."""
ENDS: Final = {
    "Chain": ("on_chain_end", "on_chain_error"),
    "LLM": ("on_llm_end", "on_llm_error"),
    "Retriever": ("on_retriever_end", "on_retriever_error"),
    "Tool": ("on_tool_end", "on_tool_error"),
}
"""By what the manager of a run is told of its end."""
FLAVOURS: Final = ("", "Async")


def tells_of_chains() -> bool:
    """Whether chains have their starts and their ends: half would be runs without an end."""
    return _tells_of("Chain")


def tells_of_models() -> bool:
    """As well for models."""
    return _tells_of("LLM")


def tells_of_retrievers() -> bool:
    """As well for retrievers."""
    return _tells_of("Retriever")


def tells_of_tools() -> bool:
    """As well for tools."""
    return _tells_of("Tool")


def tells_of_tokens() -> bool:
    """Whether a model's chunks are told of."""
    return all(callable(of_run.on_llm_new_token) for of_run in _of_runs("LLM"))


def keeps_ids() -> bool:
    """Whether a run's manager always hands out the same id, which nothing else holds."""
    return all(map(_keeps_its_id, [one for kind in ENDS for one in _of_runs(kind)]))


def _keeps_its_id(of_run: Any) -> bool:
    manager = of_run.get_noop_manager()
    if manager.run_id is not manager.run_id:
        return False
    held = weakref.ref(manager.run_id)
    del manager
    return held() is None


def has_holders() -> bool:
    """Whether the coroutines are there whose frames `holding` looks for."""
    models = import_module("langchain_core.language_models")
    tools = import_module("langchain_core.tools")
    coroutines = models.BaseChatModel.agenerate, models.BaseLLM.agenerate, tools.BaseTool.arun
    return all(map(inspect.iscoroutinefunction, coroutines))


def has_config() -> bool:
    """Whether the configuration of what runs is found in its context."""
    config = import_module("langchain_core.runnables.config")
    return isinstance(config.var_child_runnable_config, ContextVar)


def marks_cached() -> bool:
    """Whether an answer from a cache is known as one. Calls a model that says what it is told."""
    from otel_coach.instrumentors.langchain.usage import (  # noqa: PLC0415 - the import of its types
        is_from_cache,
    )

    fakes = import_module("langchain_core.language_models.fake_chat_models")
    cache = import_module("langchain_core.caches").InMemoryCache()
    handlers = import_module("langchain_core.callbacks")
    seen: list[bool] = []

    class Seeing(handlers.BaseCallbackHandler):
        """Looks at each answer."""

        def on_llm_end(self, response: Any, *, run_id: object, **_: Any) -> None:
            seen.append(is_from_cache(response, run_id))

    model = fakes.FakeListChatModel(responses=["said"], cache=cache)
    for _ in range(2):
        model.invoke("asked", config={"callbacks": [Seeing()]})
    return seen == [False, True]


def tags_steps() -> bool:
    """Whether a node's run is known as one. Runs a graph of one node."""
    from otel_coach.instrumentors.langchain.observer import (  # noqa: PLC0415 - only with LangChain
        is_graph_step,
    )

    graphs = import_module("langgraph.graph")
    handlers = import_module("langchain_core.callbacks")
    tags: list[list[str]] = []

    class Seeing(handlers.BaseCallbackHandler):
        """Looks at each run's tags."""

        def on_chain_start(self, *_: Any, **facts: Any) -> None:
            tags.append(facts.get("tags") or [])

    def node(_state: Any) -> dict[str, Any]:
        return {}

    graph = graphs.StateGraph(dict)
    graph.add_node("node", node)
    graph.add_edge(graphs.START, "node")
    graph.compile().invoke({"asked": 1}, config={"callbacks": [Seeing()]})
    return any(map(is_graph_step, tags))


def _tells_of(kind: str) -> bool:
    managers = [_of_module(f"{flavour}CallbackManager") for flavour in FLAVOURS]
    starts = all(callable(getattr(one, name)) for one in managers for name in STARTS[kind])
    of_runs = list(_of_runs(kind))
    ends = all(callable(getattr(one, name)) for one in of_runs for name in ENDS[kind])
    made = [one.get_noop_manager() for one in of_runs]
    return starts and ends and all(hasattr(one, "run_id") for one in made)


def _of_runs(kind: str) -> Iterator[Any]:
    """The managers of a run, sync and async."""
    for flavour in FLAVOURS:
        yield _of_module(f"{flavour}CallbackManagerFor{kind}Run")


def _of_module(name: str) -> Any:
    return getattr(import_module("langchain_core.callbacks.manager"), name)
