"""Sends the plan's requests concurrently, and disconnects as users do."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from verification.oracle.matrix import AWAIT, SOCKET, STREAM
from verification.oracle.received import Received
from verification.oracle.sockets import END

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from verification.oracle.plan import Order
    from verification.oracle.spans import Traces

_STALL = 0.3
LAST = "last"
"""The line after which the user of the ending `leaves_after_last_chunk` leaves."""


async def send(
    url: str, orders: Iterable[Order], traces: Traces, asked: Callable[[Order], int]
) -> Received:
    """Sends all `orders` concurrently, each in a trace of its own; returns what came back.

    `asked` returns how many requests the provider has received for an order so far.
    """
    received = Received()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        for order in orders:
            group.create_task(_send(client, order, received, traces.headers(order), asked))
    return received


async def _send(
    client: httpx.AsyncClient,
    order: Order,
    received: Received,
    headers: dict[str, str],
    asked: Callable[[Order], int],
) -> None:
    body = {
        "text": order.text,
        "ending": order.ending.name,
        "number": order.number,
        "parts": order.way.parts,
        "calls": order.way.calls,
    }
    endpoint = order.way.endpoint
    if order.way.route == SOCKET:
        await _speak(client, order, body, received, headers, asked)
        return
    if order.way.route != STREAM:
        await _ask(client, order, body, received, headers, asked)
        return
    lines = 0
    async with client.stream("POST", order.way.path, json=body, headers=headers) as response:
        received.statuses[endpoint, response.status_code] += 1
        try:
            leaves = order.ending.name == "leaves_before_first_chunk"
            async with _until_the_user_leaves(order, asked, leaves=leaves):
                async for line in response.aiter_lines():
                    lines += 1
                    if order.ending.name == "stalled_client" and lines == 1:
                        await asyncio.sleep(_STALL)
                    if order.ending.name == "leaves_mid_stream" and lines == order.way.parts:
                        break
                    if order.ending.name == "leaves_after_last_chunk" and line == LAST:
                        break
        except (httpx.HTTPError, TimeoutError):
            pass  # the stream broke off, or the user left
    if order.ending.leaves:
        received.left[order.number] = time.time()
    received.first_chunks += bool(lines)
    if not order.ending.leaves:
        received.chunks[endpoint] += lines


@asynccontextmanager
async def _until_the_user_leaves(
    order: Order, asked: Callable[[Order], int], *, leaves: bool
) -> AsyncGenerator[None]:
    """If the user `leaves`, ends the block shortly after the provider has got all calls of `order`.

    A fixed time would not do: on a busy machine, the provider may not have been called by then.
    """

    async def leave(limit: asyncio.Timeout) -> None:
        while asked(order) < order.way.calls:  # noqa: ASYNC110 - the ledger has no event
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as limit:
        leaving = asyncio.create_task(leave(limit)) if leaves else None
        try:
            yield
        finally:
            if leaving is not None:
                leaving.cancel()


async def _speak(  # noqa: PLR0913, PLR0917 - all parts of one turn
    client: httpx.AsyncClient,
    order: Order,
    body: dict[str, object],
    received: Received,
    headers: dict[str, str],
    asked: Callable[[Order], int],
) -> None:
    """Sends an order through a WebSocket of its own, and leaves it as its ending says."""
    url = f"ws://{client.base_url.netloc.decode()}{order.way.path}"
    connection = await connect(url, additional_headers=headers, open_timeout=60)
    messages = 0
    try:
        await connection.send(json.dumps(body))
        leaves = order.ending.name == "leaves_before_first_chunk"
        async with _until_the_user_leaves(order, asked, leaves=leaves):
            async for message in connection:
                messages += 1
                if order.ending.name == "leaves_mid_stream" and messages == order.way.parts:
                    break
                if message == END:
                    break
    except (ConnectionClosed, TimeoutError):
        pass  # the application failed, or the user left
    if order.ending.leaves:
        received.left[order.number] = time.time()
    received.first_chunks += bool(messages)
    if not order.ending.leaves:
        received.chunks[order.way.endpoint] += messages
    if order.ending.leaves and order.number % 2:
        connection.transport.abort()  # without a word
    await connection.close()


async def _ask(  # noqa: PLR0913, PLR0917 - all parts of one request
    client: httpx.AsyncClient,
    order: Order,
    body: dict[str, object],
    received: Received,
    headers: dict[str, str],
    asked: Callable[[Order], int],
) -> None:
    try:
        async with _until_the_user_leaves(order, asked, leaves=order.ending.before_response):
            response = await client.post(order.way.path, json=body, headers=headers)
    except TimeoutError:
        received.unanswered.append((order.way.endpoint, order.number))
        received.statuses[order.way.endpoint, order.ending.status] += 1
    else:
        received.statuses[order.way.endpoint, response.status_code] += 1
        if order.way.route == AWAIT and response.status_code != order.ending.status:
            received.surprises.append(f"{order}: answered {response.status_code}")
