"""The two ways a chat is streamed to the client."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, TypeVar, cast

from agent import CoachGraph, CoachState, text_of
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableConfig
from model import PROVIDER_ERRORS

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def stream_events(
    graph: CoachGraph, question: CoachState, config: RunnableConfig
) -> AsyncGenerator[str]:
    """Yield one JSON line per token and per tool that ran; the last line is `end` or `error`."""
    run = graph.astream(question, config, stream_mode=["messages", "updates"])
    try:
        async for part in _in_own_task(run):
            kind, content = cast("tuple[str, Any]", part)
            for event in _token_events(*content) if kind == "messages" else _tool_events(content):
                yield _line(event)
    except PROVIDER_ERRORS:
        logger.exception("The provider failed during a chat")
        yield _line({"type": "error"})
    else:
        yield _line({"type": "end"})


async def stream_text(
    graph: CoachGraph, question: CoachState, config: RunnableConfig
) -> AsyncIterator[str]:
    """Yield the tokens as plain text, for older clients, which do not know the JSON lines.

    A client that leaves does not stop the agent here: it runs to the end of its answer.
    """
    run = graph.astream(question, config, stream_mode="messages")
    while True:
        try:
            message, _ = await anext(run)
        except StopAsyncIteration:
            break
        if isinstance(message, AIMessageChunk) and (text := text_of(message)):
            yield text


async def _in_own_task(run: AsyncIterator[T]) -> AsyncIterator[T]:
    """Iterate over a run of the agent so that it stops when the client leaves.

    Starlette then cancels the response through anyio, which repeatedly cancels everything that the
    response awaits. That would interrupt LangGraph's clean-up and leave the model running
    (langgraph#5682). A separate task is cancelled only once, and can stop in order.
    """
    parts: asyncio.Queue[T | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for part in run:
                parts.put_nowait(part)
        finally:
            parts.put_nowait(None)

    task = asyncio.create_task(pump())
    try:
        while (part := await parts.get()) is not None:
            yield part
        await task  # Raises the run's exception, if any.
    finally:
        task.cancel()


def _token_events(message: object, _metadata: object) -> Iterator[dict[str, str]]:
    # Tool results arrive here too; only the model's text is tokens.
    if isinstance(message, AIMessageChunk) and (text := text_of(message)):
        yield {"type": "token", "content": text}


def _tool_events(update: dict[str, Any]) -> Iterator[dict[str, str]]:
    for result in update.get("tools", {}).get("messages", []):
        yield {"type": "tool", "name": result.name}


def _line(event: dict[str, str]) -> str:
    return json.dumps(event) + "\n"
