"""Which ways of calling a model are combined with which endings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from verification.oracle.endings import ENDINGS, Ending
from verification.oracle.ways import WAYS, Way


@dataclass(frozen=True)
class LeftOut:
    """Combinations that are left out, and the reason."""

    ways: frozenset[str]
    endings: frozenset[str]
    why: str


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
