"""What is sent, drawn from a seed, and what it must be counted as."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

AI_OK, AI_ERROR, AI_ABORTED = "ok", "error", "aborted"


@dataclass(frozen=True)
class Way:
    """A way of calling: its route, and how often it calls a model."""

    name: str
    route: str
    refused_before: int = 0
    """Calls of it that never reach the provider, because nobody listens where they go."""
    tools: bool = False
    collects: bool = False
    """Its parts are not the model's tokens: they come when the model is done."""

    parts: int = 3
    """After how many of its parts it is cut; the first ones of some are no tokens."""

    @property
    def path(self) -> str:
        """Of the request."""
        return f"/{self.route}/{self.name}"

    @property
    def endpoint(self) -> str:
        """The route's template."""
        return f"/{self.route}/{{way}}"


@dataclass(frozen=True)
class Ending:
    """A way of ending: what the user tells the provider, and what the user does."""

    name: str
    text: str
    outcome: str
    """Of the AI request, where the way streams or not."""
    status: int = 200
    leaves: bool = False
    """The user leaves before the end."""
    before_response: bool = False
    cut: bool = False
    """The call is ended by who reads it, in its middle."""
    llm_error: bool = False
    """The provider's ledger cannot tell that the call ended in error."""
    never_sent: bool = False
    routes: tuple[str, ...] = ("await", "stream")
    only: frozenset[str] = field(default_factory=frozenset)
    without: frozenset[str] = field(default_factory=frozenset)


_AWAITED = (
    "ainvoke invoke invoke_blocking abatch batch agenerate generate chain with_retry bind_tools "
    "structured_output parallel two_models thread_pool graph_ainvoke graph_ainvoke_sync_nodes "
    "graph_invoke graph_in_thread subgraph nested_agent"
).split()
_STREAMED = (
    "astream stream task_per_chunk chain_astream events_v1 events_v2 events_v3 graph_messages "
    "graph_all graph_stream graph_events_v2"
).split()
_PARTS = {"events_v1": 12, "events_v2": 12, "events_v3": 6, "graph_events_v2": 16, "graph_all": 12}
_COLLECTED = ("graph_updates", "graph_values")
_BACKGROUND = ("ainvoke", "graph_ainvoke", "graph_invoke")

# These go on in threads or by themselves when who awaits them is cancelled.
_GO_ON: Final = frozenset(
    "invoke batch generate graph_invoke graph_ainvoke_sync_nodes graph_stream graph_values".split()
)

WAYS: Final = (
    *(Way(name, "await") for name in _AWAITED),
    Way("with_fallbacks", "await", refused_before=1),
    Way("graph_tools", "await", tools=True),
    *(Way(name, "stream", parts=_PARTS.get(name, 3)) for name in _STREAMED),
    *(Way(name, "stream", collects=True) for name in _COLLECTED),
    Way("graph_tools_astream", "stream", tools=True, parts=6),
    *(Way(name, "background") for name in _BACKGROUND),
)

# Their code decides by what the model says or how it fails: not each ending makes sense.
_PICKY: Final = frozenset({"with_fallbacks", "structured_output"})
# A sync call that blocks the event loop, or a pool that is waited for, cannot be cancelled.
_BLOCKING: Final = frozenset({"invoke_blocking", "thread_pool", "graph_in_thread"})
_SLOW: Final = "[pace:0.03] [tokens:80]"

ENDINGS: Final = (
    Ending(
        "ok",
        "[tokens:{n}] [cached:{k}] [reasoning:{m}]",
        AI_OK,
        routes=("await", "stream", "background"),
    ),
    Ending("no_usage", "[no-usage] [tokens:{n}]", AI_OK, without=_PICKY),
    Ending("empty", "[empty]", AI_OK, without=_PICKY),
    Ending("stalled_client", "[tokens:{n}]", AI_OK, routes=("stream",)),
    *(
        Ending(f"refused_{code}", f"[fail:{code}]", AI_ERROR, 500, without=_PICKY)
        for code in (400, 401, 429, 500)
    ),
    Ending("cut", "[cut] [tokens:8]", AI_ERROR, 500, without=_PICKY),
    Ending("garbage", "[garbage] [tokens:8]", AI_ERROR, 500, without=_PICKY),
    Ending(
        "connection_refused",
        "hi",
        AI_ERROR,
        500,
        never_sent=True,
        without=_PICKY | {"two_models", "batch"},  # a batch gives up what it has not begun
    ),
    Ending(
        "time_out",
        "[delay:2.0]",
        AI_ERROR,
        500,
        llm_error=True,
        without=_PICKY | {"two_models", "invoke_blocking"},
    ),
    Ending(
        "hidden",
        "[fail:500]",
        AI_ERROR,
        200,
        routes=("await",),
        without=_PICKY | {"batch", "abatch"},  # the answer does not wait for their last run
    ),
    *(
        Ending(
            name,
            "[delay:2.5]",
            AI_OK,
            200,
            routes=("await",),
            without=_PICKY | _BLOCKING | _GO_ON | {"two_models"},
        )
        for name in ("asyncio_timeout", "task_cancelled")
    ),
    Ending(
        "tool",
        "[tool:weather] [tokens:{n}]",
        AI_OK,
        only=frozenset({"graph_tools", "graph_tools_astream"}),
    ),
    Ending(
        "tool_raises",
        "[tool:broken]",
        AI_ERROR,
        500,
        only=frozenset({"graph_tools", "graph_tools_astream"}),
    ),
    Ending("application_raises", _SLOW, AI_ERROR, 500, cut=True, routes=("stream",)),
    Ending("break", _SLOW, AI_OK, cut=True, routes=("stream",)),
    Ending(
        "closed",
        _SLOW,
        AI_OK,
        cut=True,
        routes=("stream",),
        without=frozenset({"events_v3", "stream", "graph_stream", "task_per_chunk"}),
    ),
    Ending("dropped", _SLOW, AI_OK, cut=True, routes=("stream",), without=frozenset({"events_v3"})),
    Ending(
        "leaves_before_response",
        "[delay:2.5]",
        AI_ABORTED,
        leaves=True,
        before_response=True,
        routes=("await",),
        without=_PICKY | {"invoke_blocking"},
    ),
    Ending("leaves_mid_stream", _SLOW, AI_ABORTED, leaves=True, cut=True, routes=("stream",)),
    Ending(
        "leaves_before_first_chunk",
        "[delay:2.5] [tokens:3]",
        AI_ABORTED,
        leaves=True,
        routes=("stream",),
    ),
)


@dataclass(frozen=True)
class Order:
    """One request of the plan."""

    number: int
    way: Way
    ending: Ending
    text: str

    @property
    def outlives(self) -> bool:
        """Whether its model runs to its end though who read it left."""
        return (self.way.name, self.ending.name) in OUTLIVES

    def __str__(self) -> str:
        return f"#{self.number} {self.way.name} x {self.ending.name}"


OUTLIVES: Final = frozenset(
    {
        # astream_events v1 and v3 run their model in a task that nobody ends.
        ("events_v1", "break"),
        ("events_v1", "closed"),
        ("events_v1", "dropped"),
        ("events_v3", "break"),
        ("events_v3", "leaves_mid_stream"),
        # Starlette cancels again and again, and so cuts off LangGraph's clean-up (langgraph#5682).
        ("graph_messages", "leaves_mid_stream"),
        ("graph_all", "leaves_mid_stream"),
        ("graph_tools_astream", "leaves_mid_stream"),
    }
)
"""Ways whose model runs to its end though who read it left, by ending: LangChain's own doing."""

UNDECIDED: Final = frozenset(
    {
        # The exception's traceback keeps the stream until the garbage collector comes.
        *(
            (name, "application_raises")
            for name in (
                "events_v1 events_v2 events_v3 graph_messages graph_all graph_stream "
                "graph_events_v2 graph_tools_astream"
            ).split()
        ),
        # A closed sync graph waits for its nodes: it blocks the event loop with all requests,
        # and where the collector closes it in its own node's thread, it waits for ever.
        *(("graph_stream", name) for name in ("break", "dropped")),
        *(("graph_stream", f"leaves_{name}") for name in ("mid_stream", "before_first_chunk")),
    }
)
"""Cells without a truth of their own among others; left out, for the reasons given."""


def fits(way: Way, ending: Ending) -> bool:
    """Whether the two can meet."""
    if way.route not in ending.routes or way.name in ending.without:
        return False
    if (way.name, ending.name) in UNDECIDED:
        return False
    if ending.only and way.name not in ending.only:
        return False
    # Three parts must come before the application, or the user, ends the stream in its middle.
    needs_parts = ending.name in {
        "application_raises",
        "break",
        "closed",
        "dropped",
        "leaves_mid_stream",
    }
    return not (needs_parts and way.collects)


CELLS: Final = tuple((way, ending) for way in WAYS for ending in ENDINGS if fits(way, ending))


def orders(seed: int, count: int) -> list[Order]:
    """`count` requests, each cell drawn about as often as any other."""
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    deck: list[tuple[Way, Ending]] = []
    drawn: list[Order] = []
    for number in range(count):
        if not deck:
            deck = list(CELLS)
            chance.shuffle(deck)
        way, ending = deck.pop()
        n, k, m = chance.randint(1, 12), chance.randint(0, 3), chance.randint(0, 4)
        drawn.append(Order(number, way, ending, ending.text.format(n=n, k=k, m=m)))
    return drawn
