"""All ways in which a call ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from verification.oracle.ways import AWAIT, BACKGROUND, OUTSIDE, SOCKET, STREAM

AI_OK, AI_ERROR, AI_ABORTED = "ok", "error", "aborted"
_EVERYWHERE: Final = (AWAIT, STREAM, SOCKET, BACKGROUND, OUTSIDE)
_IN_PARTS: Final = (STREAM, SOCKET)
_GRAPH_TOOLS = frozenset({"graph_tools", "graph_tools_astream"})

LAST: Final = "last"
"""The line after which the user of the ending `leaves_after_last_chunk` leaves."""


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
