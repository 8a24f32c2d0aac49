"""Sends the plan's requests concurrently, and disconnects as users do."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import websockets
from websockets.exceptions import ConnectionClosed

from verification.oracle.endings import LAST
from verification.oracle.received import Received
from verification.oracle.sockets import END
from verification.oracle.ways import AWAIT, SOCKET, STREAM

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from verification.oracle.plan import Order
    from verification.oracle.spans import Traces

    _Body = dict[str, object]
    _Headers = dict[str, str]

_STALL = 0.3


async def send(
    url: str, orders: Iterable[Order], traces: Traces, asked: Callable[[Order], int]
) -> Received:
    """Sends all `orders` concurrently, each in a trace of its own; returns what came back.

    `asked` returns how many requests the provider has received for an order so far.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        users = _Users(client, Received(), traces, asked)
        async with asyncio.TaskGroup() as group:
            for order in orders:
                group.create_task(users.send(order))
    return users.received


@dataclass(frozen=True)
class _Users:
    """The users of one batch."""

    client: httpx.AsyncClient
    received: Received
    traces: Traces
    asked: Callable[[Order], int]

    async def send(self, order: Order) -> None:
        """Sends one order, and leaves as its ending says."""
        body = {
            "text": order.text,
            "ending": order.ending.name,
            "number": order.number,
            "parts": order.way.parts,
            "calls": order.way.calls,
        }
        how = {SOCKET: self._speak, STREAM: self._listen}.get(order.way.route, self._ask)
        await how(order, body, self.traces.headers(order))

    async def _listen(self, order: Order, body: _Body, headers: _Headers) -> None:
        """Reads a streamed answer."""
        path, lines = order.way.path, 0
        async with self.client.stream("POST", path, json=body, headers=headers) as response:
            self.received.statuses[order.way.endpoint, response.status_code] += 1
            try:
                async with self._until_the_user_leaves(order, leaves=_leaves_first(order)):
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
        self._note_parts(order, lines)

    async def _speak(self, order: Order, body: _Body, headers: _Headers) -> None:
        """Sends the order through a WebSocket of its own."""
        url = f"ws://{self.client.base_url.netloc.decode()}{order.way.path}"
        connection = await websockets.connect(url, additional_headers=headers, open_timeout=60)
        messages = 0
        try:
            await connection.send(json.dumps(body))
            async with self._until_the_user_leaves(order, leaves=_leaves_first(order)):
                async for message in connection:
                    messages += 1
                    if order.ending.name == "leaves_mid_stream" and messages == order.way.parts:
                        break
                    if message == END:
                        break
        except (ConnectionClosed, TimeoutError):
            pass  # the application failed, or the user left
        self._note_parts(order, messages)
        if order.ending.leaves and order.number % 2:
            connection.transport.abort()  # without a word
        await connection.close()

    async def _ask(self, order: Order, body: _Body, headers: _Headers) -> None:
        """Waits for an answer that comes as a whole."""
        received, endpoint = self.received, order.way.endpoint
        try:
            async with self._until_the_user_leaves(order, leaves=order.ending.before_response):
                response = await self.client.post(order.way.path, json=body, headers=headers)
        except TimeoutError:
            received.left[order.number] = time.time()
            received.unanswered.append((endpoint, order.number))
            received.statuses[endpoint, order.ending.status] += 1
        else:
            received.statuses[endpoint, response.status_code] += 1
            if order.way.route == AWAIT and response.status_code != order.ending.status:
                received.surprises.append(f"{order}: answered {response.status_code}")

    def _note_parts(self, order: Order, parts: int) -> None:
        """Notes how many parts of an answer arrived."""
        self.received.first_chunks += bool(parts)
        if order.ending.leaves:
            self.received.left[order.number] = time.time()
        else:
            self.received.chunks[order.way.endpoint] += parts

    @asynccontextmanager
    async def _until_the_user_leaves(self, order: Order, *, leaves: bool) -> AsyncGenerator[None]:
        """If the user `leaves`, ends the block shortly after the provider has got all calls.

        A fixed time would not do: on a busy machine, the provider may not have been called by then.
        """

        async def leave(limit: asyncio.Timeout) -> None:
            while self.asked(order) < order.way.calls:  # noqa: ASYNC110 - the ledger has no event
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


def _leaves_first(order: Order) -> bool:
    return order.ending.name == "leaves_before_first_chunk"
