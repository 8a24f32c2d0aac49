"""The ways of calling a model that each integration is driven by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from langchain_core.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

QUESTION: Final = "How shall I run in Bern?"


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}."


_loop = asyncio.new_event_loop()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine in the one loop of all tests, since packages keep connections."""
    return _loop.run_until_complete(coroutine)


async def read(stream: Any) -> list[Any]:
    """Reads a stream to its end."""
    return [chunk async for chunk in stream]


def _agent(model: Any) -> Any:
    from langgraph.prebuilt import create_react_agent

    return create_react_agent(model, [weather])


_MESSAGES: Final = {"messages": [("user", QUESTION)]}

CALLS: Final[dict[str, Callable[[Any], Any]]] = {
    "invoke": lambda model: model.invoke(QUESTION),
    "ainvoke": lambda model: run(model.ainvoke(QUESTION)),
    "stream": lambda model: list(model.stream(QUESTION)),
    "astream": lambda model: run(read(model.astream(QUESTION))),
}
"""One call, with tools bound."""

AGENTS: Final[dict[str, Callable[[Any], Any]]] = {
    "agent": lambda model: _agent(model).invoke(_MESSAGES),
    "agent astream": lambda model: run(
        read(_agent(model).astream(_MESSAGES, stream_mode="messages"))
    ),
}
"""Two calls: the model asks for a tool, then it answers."""

WAYS: Final = {**CALLS, **AGENTS}
