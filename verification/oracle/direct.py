"""The ways of calling a model by the openai and anthropic packages, with or without a graph."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import anthropic
import openai
from langgraph.graph import START, MessagesState, StateGraph

from tests.support.direct_calls import HELPERS, RAW_STREAMS, STREAMS, WHOLE, package_of
from verification.oracle import witness
from verification.oracle.models import ENDPOINTS


def in_steps(stream: Iterator[Any]) -> AsyncIterator[Any]:
    """Iterates over a synchronous generator, each step in a thread, as Starlette does."""

    async def steps() -> AsyncIterator[Any]:
        done = object()
        while (part := await asyncio.to_thread(next, stream, done)) is not done:
            yield part

    return steps()


def open_clients(url: str, timeout: float) -> dict[tuple[str, bool], Any]:
    """Returns clients of both packages, by package and whether they are asynchronous."""
    found: dict[tuple[str, bool], Any] = {}
    for package, module, name, base_url in (
        ("openai", openai, "OpenAI", url),
        (
            "anthropic",
            anthropic,
            "Anthropic",
            url.removesuffix("/v1").replace("127.0.0.1", "localhost"),
        ),
    ):
        for prefix, transport in (("", "http_client"), ("Async", "http_async_client")):
            found[package, bool(prefix)] = getattr(module, prefix + name)(
                api_key="local",
                base_url=base_url,
                timeout=timeout,
                max_retries=0,
                http_client=witness.clients()[transport],
            )
    return found


CLIENTS: Final = {ending: open_clients(*endpoint) for ending, endpoint in ENDPOINTS.items()}


def _client(call: Any, name: str, *, asynchronous: bool) -> Any:
    clients = CLIENTS.get(call.ending, CLIENTS["ok"])
    return clients[package_of(name), asynchronous]


def _ask(call: Any, name: str) -> Awaitable[Any]:
    return WHOLE[name](_client(call, name, asynchronous=True), call.text, call.number)


async def _raw(call: Any, name: str) -> Any:
    return (await _ask(call, name)).parse()


def _ask_in_thread(call: Any, name: str) -> Awaitable[Any]:
    client = _client(call, name, asynchronous=False)
    return asyncio.to_thread(WHOLE[name], client, call.text, call.number)


def _graph(call: Any) -> Any:
    """Returns a graph whose node calls the openai package itself."""

    async def node(_state: MessagesState) -> dict[str, Any]:
        answer: Any = await _ask(call, "chat")
        return {"messages": [answer.choices[0].message.content or "nothing"]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile()


async def _stream(call: Any, name: str) -> AsyncIterator[Any]:
    client = _client(call, name, asynchronous=True)
    if name in HELPERS:
        opened = HELPERS[name](client, call.text, call.number)
    elif name in RAW_STREAMS:
        opened = (await RAW_STREAMS[name](client, call.text, call.number)).parse()
    else:
        opened = await STREAMS[name](client, call.text, call.number)
    async with opened as stream:
        async for part in stream:
            yield part


def _stream_in_steps(call: Any, name: str) -> AsyncIterator[Any]:
    client = _client(call, name, asynchronous=False)

    def parts() -> Iterator[Any]:
        with STREAMS[name](client, call.text, call.number) as stream:
            yield from stream

    return in_steps(parts())


AWAITED: Final[dict[str, Callable[[Any], Awaitable[Any]]]] = {
    "openai_chat": lambda c: _ask(c, "chat"),
    "openai_chat_sync": lambda c: _ask_in_thread(c, "chat"),
    "openai_chat_raw": lambda c: _raw(c, "chat_raw"),
    "openai_responses": lambda c: _ask(c, "responses"),
    "openai_in_graph": lambda c: _graph(c).ainvoke(c.state),
    "anthropic_messages": lambda c: _ask(c, "messages"),
    "anthropic_messages_sync": lambda c: _ask_in_thread(c, "messages"),
}
STREAMED: Final[dict[str, Callable[[Any], AsyncIterator[Any]]]] = {
    "openai_stream": lambda c: _stream(c, "chat_stream"),
    "openai_stream_sync": lambda c: _stream_in_steps(c, "chat_stream"),
    "openai_stream_raw": lambda c: _stream(c, "chat_raw_stream"),
    "openai_stream_helper": lambda c: _stream(c, "chat_helper"),
    "openai_responses_stream": lambda c: _stream(c, "responses_stream"),
    "anthropic_stream": lambda c: _stream(c, "messages_stream"),
    "anthropic_stream_helper": lambda c: _stream(c, "messages_helper"),
}
