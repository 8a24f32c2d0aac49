"""Tries the parts of langchain-core and LangGraph that `compatibility` lists."""

from __future__ import annotations

import asyncio
import inspect
import sys
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
"""Methods of a manager that start runs, by kind of run."""
ENDS: Final = {
    "Chain": ("on_chain_end", "on_chain_error"),
    "LLM": ("on_llm_end", "on_llm_error"),
    "Retriever": ("on_retriever_end", "on_retriever_error"),
    "Tool": ("on_tool_end", "on_tool_error"),
}
"""Methods of a run's own manager that report its end, by kind of run."""
EMBEDDING_METHODS: Final = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")
"""Methods of an embedding model."""
FLAVOURS: Final = ("", "Async")


def tells_of_chains() -> bool:
    """Returns whether managers have all methods for chains; without ends, runs would stay open."""
    return _has_methods_for("Chain")


def tells_of_models() -> bool:
    """Returns the same for models."""
    return _has_methods_for("LLM")


def tells_of_retrievers() -> bool:
    """Returns the same for retrievers."""
    return _has_methods_for("Retriever")


def tells_of_tools() -> bool:
    """Returns the same for tools."""
    return _has_methods_for("Tool")


def has_embeddings() -> bool:
    """Returns whether embedding models have the methods that are replaced."""
    base = import_module("langchain_core.embeddings.embeddings").Embeddings
    return all(inspect.isfunction(base.__dict__.get(name)) for name in EMBEDDING_METHODS)


def tells_of_tokens() -> bool:
    """Returns whether the managers have the method for a model's chunks."""
    return all(callable(run_manager.on_llm_new_token) for run_manager in _run_managers("LLM"))


def keeps_ids() -> bool:
    """Returns whether a run's manager has one id object, to which nothing else refers."""
    return all(map(_keeps_its_id, [manager for kind in ENDS for manager in _run_managers(kind)]))


def _keeps_its_id(run_manager: Any) -> bool:
    manager = run_manager.get_noop_manager()
    if manager.run_id is not manager.run_id:
        return False
    id_ref = weakref.ref(manager.run_id)
    del manager
    return id_ref() is None


def sees_threaded_models() -> bool:
    """Returns whether code that a model's method calls in a thread is seen to be inside of a model.

    LangChain runs `_generate` and `_stream` in a thread for a model without asynchronous methods.
    """
    from otel_coach.instrumentors.langchain.model_frames import is_inside_model  # noqa: PLC0415 - only with LangChain

    models = import_module("langchain_core.language_models")
    messages = import_module("langchain_core.messages")
    outputs = import_module("langchain_core.outputs")
    seen: list[bool] = []

    class SyncModel(models.BaseChatModel):
        """Notes what is seen in each of its methods."""

        @property
        def _llm_type(self) -> str:
            return "trial"

        def _generate(self, *_: Any, **__: Any) -> Any:
            seen.append(is_inside_model())
            message = messages.AIMessage("said")
            return outputs.ChatResult(generations=[outputs.ChatGeneration(message=message)])

        def _stream(self, *_: Any, **__: Any) -> Iterator[Any]:
            seen.append(is_inside_model())
            yield outputs.ChatGenerationChunk(message=messages.AIMessageChunk("said"))

    async def ask(model: Any) -> None:
        await model.agenerate([[]])
        async for _ in model.astream("asked"):
            pass

    asyncio.run(ask(SyncModel()))
    return seen == [True, True]


def has_event_feeders() -> bool:
    """Returns whether the event streams have the coroutine in which they run their runnable."""
    streams = (
        ("langchain_core.tracers.log_stream", "_astream_log_implementation"),
        ("langchain_core.tracers.event_stream", "_astream_events_implementation_v2"),
    )
    for module, name in streams:
        constants = getattr(import_module(module), name).__code__.co_consts
        if "consume_astream" not in {getattr(part, "co_name", "") for part in constants}:
            return False
    return True


def has_owner_tasks() -> bool:
    """Returns whether the coroutines exist whose frames `owner_task` looks for."""
    models = import_module("langchain_core.language_models")
    tools = import_module("langchain_core.tools")
    coroutines = [models.BaseChatModel.agenerate, models.BaseLLM.agenerate, tools.BaseTool.arun]
    # A host without retrievers need not import them for this.
    if (retrievers := sys.modules.get("langchain_core.retrievers")) is not None:
        coroutines.append(retrievers.BaseRetriever.ainvoke)
    return all(map(inspect.iscoroutinefunction, coroutines))


def has_config() -> bool:
    """Returns whether the configuration of the current run is in a context variable."""
    config = import_module("langchain_core.runnables.config")
    return isinstance(config.var_child_runnable_config, ContextVar)


def marks_cached() -> bool:
    """Returns whether an answer from a cache is recognised. Calls a fake model to find out."""
    from otel_coach.instrumentors.langchain.cached_answers import is_marked  # noqa: PLC0415 - only with LangChain

    fakes = import_module("langchain_core.language_models.fake_chat_models")
    cache = import_module("langchain_core.caches").InMemoryCache()
    handlers = import_module("langchain_core.callbacks")
    seen: list[bool] = []

    class AnswerHandler(handlers.BaseCallbackHandler):
        """Checks each answer."""

        def on_llm_end(self, response: Any, *, run_id: object, **_: Any) -> None:
            seen.append(is_marked(response, run_id))

    model = fakes.FakeListChatModel(responses=["said"], cache=cache)
    for _ in range(2):
        model.invoke("asked", config={"callbacks": [AnswerHandler()]})
    return seen == [False, True]


def tags_steps() -> bool:
    """Returns whether the run of a node is recognised. Runs a graph of one node to find out."""
    from otel_coach.instrumentors.langchain.observer import is_graph_step  # noqa: PLC0415 - only with LangChain

    graphs = import_module("langgraph.graph")
    handlers = import_module("langchain_core.callbacks")
    tags: list[list[str]] = []

    class TagHandler(handlers.BaseCallbackHandler):
        """Keeps the tags of each run."""

        def on_chain_start(self, *_: Any, **kwargs: Any) -> None:
            tags.append(kwargs.get("tags") or [])

    def node(_state: Any) -> dict[str, Any]:
        return {}

    graph = graphs.StateGraph(dict)
    graph.add_node("node", node)
    graph.add_edge(graphs.START, "node")
    graph.compile().invoke({"asked": 1}, config={"callbacks": [TagHandler()]})
    return any(map(is_graph_step, tags))


def _has_methods_for(kind: str) -> bool:
    managers = [_manager_class(f"{flavour}CallbackManager") for flavour in FLAVOURS]
    starts = all(callable(getattr(manager, name)) for manager in managers for name in STARTS[kind])
    run_managers = list(_run_managers(kind))
    ends = all(callable(getattr(manager, name)) for manager in run_managers for name in ENDS[kind])
    instances = [manager.get_noop_manager() for manager in run_managers]
    return starts and ends and all(hasattr(instance, "run_id") for instance in instances)


def _run_managers(kind: str) -> Iterator[Any]:
    """Yields the classes of a run's own manager, sync and async."""
    for flavour in FLAVOURS:
        yield _manager_class(f"{flavour}CallbackManagerFor{kind}Run")


def _manager_class(name: str) -> Any:
    return getattr(import_module("langchain_core.callbacks.manager"), name)
