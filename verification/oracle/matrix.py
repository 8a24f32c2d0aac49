"""All ways of calling a model, all ways in which a call ends, and which of them are combined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.support.versions import HAS_EVENTS_V3, HAS_MESSAGES

AI_OK, AI_ERROR, AI_ABORTED = "ok", "error", "aborted"

AWAIT, STREAM, SOCKET = "await", "stream", "socket"
BACKGROUND, OUTSIDE = "background", "outside"
NO_AI_REQUEST: Final = frozenset({BACKGROUND, OUTSIDE})
_EVERYWHERE: Final = (AWAIT, STREAM, SOCKET, BACKGROUND, OUTSIDE)
_IN_PARTS: Final = (STREAM, SOCKET)
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


@dataclass(frozen=True)
class Ending:
    """A way in which a call ends: the prompt that tells the provider, and what the user does."""

    name: str
    what: str
    text: str
    outcome: str
    """The status of the AI request."""
    routes: tuple[str, ...] = (AWAIT, STREAM, SOCKET)
    status: int = 200
    """The status of the response, if the route awaits the model."""
    leaves: bool = False
    """Whether the user leaves before the end."""
    cut: bool = False
    """Whether the stream's reader stops in the middle of the stream."""
    only: frozenset[str] = field(default_factory=frozenset)
    """The names of the ways that it is combined with; empty for all."""

    @property
    def before_response(self) -> bool:
        """Whether the user leaves before the response begins."""
        return self.name == "leaves_before_response"


@dataclass(frozen=True)
class LeftOut:
    """Combinations that are left out, and the reason."""

    ways: frozenset[str]
    endings: frozenset[str]
    why: str


_GRAPH_TOOLS = frozenset({"graph_tools", "graph_tools_astream"})

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

KEPT_OPEN: Final = frozenset({"openai_stream_sync"})
"""The ways whose connection to the provider stays open after their generator was dropped, until the
garbage collector runs: the openai package closes a synchronous stream only if it is told to."""
PACE: Final = 0.03
"""Seconds between two chunks of a slow answer."""
_SLOW: Final = f"[pace:{PACE}] [tokens:80]"

ENDINGS: Final = (
    Ending(
        "ok",
        "the model answers",
        "[tokens:{n}] [cached:{k}] [reasoning:{m}]",
        AI_OK,
        routes=_EVERYWHERE,
    ),
    Ending("no_usage", "the answer reports no usage", "[no-usage] [tokens:{n}]", AI_OK),
    Ending("empty", "the answer is empty", "[empty]", AI_OK),
    Ending("stalled_client", "the user reads slowly", "[tokens:{n}]", AI_OK, routes=(STREAM,)),
    *(
        Ending(
            f"refused_{code}",
            f"the provider answers {code}",
            f"[fail:{code}]",
            AI_ERROR,
            _EVERYWHERE,
            status=500,
        )
        for code in (400, 401, 429, 500)
    ),
    Ending(
        "cut",
        "the connection breaks half-way",
        "[cut] [tokens:8]",
        AI_ERROR,
        _EVERYWHERE,
        status=500,
    ),
    Ending(
        "garbage",
        "the provider sends garbage instead of JSON",
        "[garbage] [tokens:8]",
        AI_ERROR,
        _EVERYWHERE,
        status=500,
    ),
    Ending("connection_refused", "the provider is down", "hi", AI_ERROR, _EVERYWHERE, status=500),
    Ending(
        "time_out",
        "the model's client times out",
        "[delay:8.0]",
        AI_ERROR,
        _EVERYWHERE,
        status=500,
    ),
    Ending(
        "hidden",
        "the application answers as if nothing had happened although the provider fails",
        "[fail:500]",
        AI_ERROR,
        routes=(AWAIT, SOCKET),
    ),
    Ending(
        "asyncio_timeout", "asyncio.timeout cancels the call", "[delay:2.5]", AI_OK, routes=(AWAIT,)
    ),
    Ending("task_cancelled", "the call's task is cancelled", "[delay:2.5]", AI_OK, routes=(AWAIT,)),
    Ending(
        "goes_on",
        "the request ends, the run goes on",
        "[delay:1.2] [tokens:{n}]",
        AI_OK,
        routes=(AWAIT,),
    ),
    Ending("tool", "a tool is called", "[tool:weather] [tokens:{n}]", AI_OK, only=_GRAPH_TOOLS),
    Ending(
        "tool_raises", "a tool raises", "[tool:broken]", AI_ERROR, status=500, only=_GRAPH_TOOLS
    ),
    Ending(
        "application_raises",
        "the application raises mid-stream",
        _SLOW,
        AI_ERROR,
        cut=True,
        routes=_IN_PARTS,
    ),
    Ending("break", "the application stops reading", _SLOW, AI_OK, cut=True, routes=_IN_PARTS),
    Ending("closed", "the application closes the stream", _SLOW, AI_OK, cut=True, routes=_IN_PARTS),
    Ending(
        "dropped",
        "the garbage collector closes the stream",
        _SLOW,
        AI_OK,
        cut=True,
        routes=_IN_PARTS,
    ),
    Ending(
        "leaves_before_response",
        "the user leaves before the response",
        "[delay:2.5]",
        AI_ABORTED,
        leaves=True,
        routes=(AWAIT,),
    ),
    Ending(
        "leaves_before_first_chunk",
        "the user leaves before the first chunk",
        "[delay:2.5] [tokens:3]",
        AI_ABORTED,
        leaves=True,
        routes=_IN_PARTS,
    ),
    Ending(
        "leaves_mid_stream",
        "the user leaves mid-stream",
        _SLOW,
        AI_ABORTED,
        leaves=True,
        cut=True,
        routes=_IN_PARTS,
    ),
    Ending(
        "leaves_after_last_chunk",
        "the user leaves between the last chunk and the end",
        "[tokens:{n}]",
        AI_ABORTED,
        leaves=True,
        routes=(STREAM,),
    ),
)

_FAILING = frozenset(
    "refused_400 refused_401 refused_429 refused_500 cut garbage connection_refused "
    "time_out hidden".split()
)
_IN_THE_MIDDLE = frozenset("application_raises break closed dropped leaves_mid_stream".split())

LEFT_OUT: Final = (
    LeftOut(
        frozenset({"turn_task"}),
        _FAILING | {"application_raises", "break", "closed", "dropped"},
        "The handler awaits the next message: what ends in a task of its own does not end it.",
    ),
    LeftOut(
        frozenset(
            {"graph_updates", "graph_values", "turn_ainvoke", "turn_graph_ainvoke", "turn_thread"}
        ),
        _IN_THE_MIDDLE,
        "The first part arrives when the model has finished: the stream has no middle to end in.",
    ),
    LeftOut(
        frozenset({"structured_output"}),
        frozenset({"empty"}),
        "LangChain's parser fails on an empty answer; the call itself does not fail.",
    ),
    LeftOut(
        frozenset({"invoke_blocking", "thread_pool", "graph_in_thread"}),
        frozenset({"asyncio_timeout", "task_cancelled"}),
        "The event loop itself waits until the call ends: nothing can cancel it.",
    ),
    LeftOut(
        frozenset({"invoke_blocking"}),
        frozenset({"time_out", "leaves_before_response", "goes_on"}),
        "It would block the event loop so long that other requests time out.",
    ),
    LeftOut(
        frozenset({"batch", "abatch"}),
        frozenset({"hidden"}),
        "The response does not wait for the batch's last call, so that either may end first.",
    ),
    LeftOut(
        frozenset({"stream", "graph_stream", "graph_stream_all", "task_per_chunk", "events_v3"}),
        frozenset({"closed"}),
        "The application has no generator of LangChain's that it could close.",
    ),
    LeftOut(
        frozenset(
            "events_v1 events_v2 events_v3 graph_messages graph_all graph_stream "
            "graph_stream_all graph_events_v2 graph_tools_astream turn_events turn_graph".split()
        ),
        frozenset({"application_raises"}),
        "The exception's traceback keeps the stream alive until the garbage collector runs.",
    ),
    LeftOut(
        frozenset({"openai_chat_raw", "openai_stream_raw"}),
        frozenset({"garbage"}),
        "The package hands the garbage over; that it cannot be read is no error of the call.",
    ),
    LeftOut(
        frozenset({"anthropic_stream_helper"}),
        frozenset({"no_usage"}),
        "The package's helper fails without usage, which Anthropic always names.",
    ),
    LeftOut(
        frozenset({"openai_stream_sync"}),
        frozenset({"closed"}),
        "The application has no asynchronous generator that it could close.",
    ),
    LeftOut(
        frozenset({"graph_stream", "graph_stream_all"}),
        frozenset({"break", "dropped", "leaves_mid_stream", "leaves_before_first_chunk"}),
        "Closing a synchronous graph waits for its nodes: that blocks the event loop, and it never "
        "ends if the garbage collector does it in its own node's thread, also without otel-coach.",
    ),
)
"""Combinations whose correct result is not defined, or that would disturb other requests."""

OUTLIVES: Final = frozenset(
    {
        # astream_events v1 and v3 run their model in a task that is not cancelled.
        ("events_v1", "break"),
        ("events_v1", "closed"),
        ("events_v1", "dropped"),
        ("events_v3", "break"),
        ("events_v3", "dropped"),
        ("events_v3", "leaves_mid_stream"),
        # Starlette cancels repeatedly, which interrupts LangGraph's clean-up (langgraph#5682).
        ("graph_messages", "leaves_mid_stream"),
        ("graph_all", "leaves_mid_stream"),
        ("graph_tools_astream", "leaves_mid_stream"),
    }
)
"""(way, ending): LangChain lets the model run to its end although the stream's reader stopped."""


def why_not(way: Way, ending: Ending) -> str | None:
    """Returns why the two are not combined; None if they are, "" if the reason is obvious."""
    if way.route not in ending.routes or (ending.only and way.name not in ending.only):
        return ""
    for left_out in LEFT_OUT:
        if way.name in left_out.ways and ending.name in left_out.endings:
            return left_out.why
    return None


CELLS: Final = tuple(
    (way, ending) for way in WAYS for ending in ENDINGS if why_not(way, ending) is None
)
