"""All ways of calling a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.support.versions import HAS_EVENTS_V3, HAS_MESSAGES

AWAIT, STREAM, SOCKET = "await", "stream", "socket"
BACKGROUND, OUTSIDE = "background", "outside"
NO_AI_REQUEST: Final = frozenset({BACKGROUND, OUTSIDE})
ROUTES: Final = {
    AWAIT: "answered with one JSON document",
    STREAM: "answered with a stream",
    SOCKET: "answered in a turn of a WebSocket, part by part",
    BACKGROUND: "from BackgroundTasks, after the answer",
    OUTSIDE: "outside any request, in a thread of its own, as in a script",
}
"""The service's routes, and where each of them calls the model."""


@dataclass(frozen=True)
class Way:
    """A way of calling a model: its route, and how often it calls a model."""

    name: str
    route: str
    what: str
    """What is called, as LangChain's and LangGraph's documentation writes it."""
    calls: int = 1
    """The number of requests to the provider."""
    agents: int = 0
    """The number of graphs that run."""
    refused_before: int = 0
    """The number of calls that never reach the provider, because their connection is refused."""
    embeds: bool = False
    """Whether its calls are those of an embedding model, so that there is no AI request."""
    retrieves: bool = False
    """Whether a retriever runs, which embeds its query."""
    collects: bool = False
    """Whether its parts are not the model's tokens, but arrive when the model has finished."""
    parts: int = 3
    """The number of parts after which a stream is cut; the first parts of some are no tokens."""

    @property
    def path(self) -> str:
        """The path of the request."""
        return f"/{self.route}/{self.name}"

    @property
    def endpoint(self) -> str:
        """The route's template."""
        return f"/{self.route}/{{way}}"


ALL_WAYS: Final = (
    Way("ainvoke", AWAIT, "model.ainvoke"),
    Way("invoke", AWAIT, "model.invoke in a worker thread"),
    Way("invoke_blocking", AWAIT, "model.invoke on the event loop"),
    Way("abatch", AWAIT, "model.abatch of two", calls=2),
    Way("batch", AWAIT, "model.batch of two", calls=2),
    Way("agenerate", AWAIT, "model.agenerate of two", calls=2),
    Way("generate", AWAIT, "model.generate"),
    Way("chain", AWAIT, "prompt | model | parser"),
    Way("with_retry", AWAIT, "a chain with_retry, whose first call fails", calls=2),
    Way(
        "with_fallbacks", AWAIT, "model.with_fallbacks, whose first model is down", refused_before=1
    ),
    Way("bind_tools", AWAIT, "model.bind_tools"),
    Way("structured_output", AWAIT, "model.with_structured_output"),
    Way("parallel", AWAIT, "RunnableParallel of two", calls=2),
    Way("two_models", AWAIT, "one model after another", calls=2),
    Way("thread_pool", AWAIT, "model.invoke in the application's own thread pool"),
    Way("graph_ainvoke", AWAIT, "graph.ainvoke, asynchronous nodes", agents=1),
    Way("graph_ainvoke_sync_nodes", AWAIT, "graph.ainvoke, synchronous nodes", agents=1),
    Way("graph_invoke", AWAIT, "graph.invoke in a worker thread", agents=1),
    Way("graph_in_thread", AWAIT, "graph.invoke in the application's own thread pool", agents=1),
    Way("graph_tools", AWAIT, "graph.ainvoke with tools", agents=1),
    Way("subgraph", AWAIT, "a graph as the node of a graph", agents=2),
    Way("nested_agent", AWAIT, "an agent that calls an agent", agents=2),
    Way(
        "graph_retriever",
        AWAIT,
        "graph.ainvoke, a retriever and a subgraph with the model",
        agents=2,
        retrieves=True,
    ),
    Way("aembed_query", AWAIT, "embeddings.aembed_query", embeds=True),
    Way("embed_documents", AWAIT, "embeddings.embed_documents in a worker thread", embeds=True),
    Way("retriever", AWAIT, "a vector store's retriever.ainvoke", embeds=True, retrieves=True),
    Way("astream", STREAM, "model.astream"),
    Way("stream", STREAM, "model.stream in worker threads"),
    Way("task_per_chunk", STREAM, "model.astream, each chunk awaited by a task of its own"),
    Way("chain_astream", STREAM, "(prompt | model | parser).astream"),
    Way("events_v1", STREAM, "model.astream_events, version 1", parts=12),
    Way("events_v2", STREAM, "chain.astream_events, version 2", parts=12),
    Way("events_v3", STREAM, "model.astream_events, version 3", parts=6),
    Way("graph_messages", STREAM, "graph.astream, mode messages", agents=1),
    Way("graph_all", STREAM, "graph.astream, all modes at once", agents=1, parts=12),
    Way("graph_updates", STREAM, "graph.astream, mode updates", agents=1, collects=True),
    Way("graph_values", STREAM, "graph.astream, mode values", agents=1, collects=True),
    Way("graph_stream", STREAM, "graph.stream in worker threads", agents=1),
    Way("graph_stream_all", STREAM, "graph.stream, all modes at once, in worker threads", agents=1),
    Way("graph_events_v2", STREAM, "graph.astream_events, version 2", agents=1, parts=16),
    Way("graph_tools_astream", STREAM, "graph.astream with tools", agents=1, parts=6),
    Way("turn_astream", SOCKET, "model.astream"),
    Way("turn_chain", SOCKET, "(prompt | model | parser).astream"),
    Way("turn_events", SOCKET, "chain.astream_events, version 2", parts=12),
    Way("turn_graph", SOCKET, "graph.astream, mode messages", agents=1),
    Way("turn_openai", SOCKET, "AsyncOpenAI: chat.completions.create, stream"),
    Way("turn_task", SOCKET, "graph.astream in a task, while the next is received", agents=1),
    Way("turn_ainvoke", SOCKET, "model.ainvoke", collects=True),
    Way("turn_graph_ainvoke", SOCKET, "graph.ainvoke", agents=1, collects=True),
    Way("turn_thread", SOCKET, "model.invoke in a worker thread", collects=True),
    Way("ainvoke", BACKGROUND, "model.ainvoke"),
    Way("graph_ainvoke", BACKGROUND, "graph.ainvoke", agents=1),
    Way("graph_invoke", BACKGROUND, "graph.invoke in a worker thread", agents=1),
    Way("openai_chat", AWAIT, "AsyncOpenAI: chat.completions.create"),
    Way("openai_chat_sync", AWAIT, "OpenAI: chat.completions.create in a worker thread"),
    Way("openai_chat_raw", AWAIT, "AsyncOpenAI: chat.completions.with_raw_response.create"),
    Way("openai_responses", AWAIT, "AsyncOpenAI: responses.create"),
    Way("openai_in_graph", AWAIT, "AsyncOpenAI in a node of a graph", agents=1),
    Way("anthropic_messages", AWAIT, "AsyncAnthropic: messages.create"),
    Way("anthropic_messages_sync", AWAIT, "Anthropic: messages.create in a worker thread"),
    Way("openai_stream", STREAM, "AsyncOpenAI: chat.completions.create, stream"),
    Way("openai_stream_sync", STREAM, "OpenAI: the same in worker threads"),
    Way("openai_stream_raw", STREAM, "AsyncOpenAI: the same with_raw_response"),
    Way("openai_stream_helper", STREAM, "AsyncOpenAI: chat.completions.stream", parts=6),
    Way("openai_responses_stream", STREAM, "AsyncOpenAI: responses.create, stream", parts=6),
    Way("anthropic_stream", STREAM, "AsyncAnthropic: messages.create, stream", parts=5),
    Way("anthropic_stream_helper", STREAM, "AsyncAnthropic: messages.stream", parts=6),
    Way("openai_chat", BACKGROUND, "AsyncOpenAI: chat.completions.create"),
    Way("openai_chat_sync", OUTSIDE, "OpenAI: chat.completions.create in a worker thread"),
    Way("ainvoke", OUTSIDE, "model.ainvoke"),
    Way("graph_ainvoke", OUTSIDE, "graph.ainvoke", agents=1),
    Way("batch", OUTSIDE, "model.batch of two", calls=2),
)

WAYS: Final = tuple(
    way
    for way in ALL_WAYS
    if (HAS_EVENTS_V3 or way.name != "events_v3")
    and (HAS_MESSAGES or not way.name.startswith("anthropic"))
)

IN_THREADS: Final = frozenset(
    "invoke batch generate thread_pool graph_ainvoke_sync_nodes graph_invoke graph_in_thread "
    "graph_values invoke_blocking stream graph_stream graph_stream_all turn_thread "
    "openai_chat_sync anthropic_messages_sync openai_stream_sync embed_documents".split()
)
"""The ways whose call is made in a thread, or blocks the event loop: it ends in its own time."""
