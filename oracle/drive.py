"""Sends the plan's requests, many at once, as users would, and leaves as they do."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from oracle.matrix import AWAIT, STREAM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oracle.plan import Order
    from oracle.spans import Traces

_LEAVES_AFTER = 0.8
_STALL = 0.3
LAST = "last"
"""The line after which a user leaves who leaves between the last chunk and the end."""


@dataclass
class Received:
    """What the users of one batch received."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Responses by endpoint and status; one that came after its user left counts as sent."""
    chunks: Counter[str] = field(default_factory=Counter)
    """Lines of streams that were read to their end, or until they broke off, by endpoint."""
    surprises: list[str] = field(default_factory=list)
    """Answers that the application under test should not have given."""
    first_chunks: int = 0
    """Streams of which at least one line came."""


async def send(url: str, orders: Iterable[Order], traces: Traces) -> Received:
    """Send all `orders` at once, each in its trace."""
    received = Received()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        for order in orders:
            group.create_task(_send(client, order, received, traces.headers(order)))
    return received


async def _send(
    client: httpx.AsyncClient, order: Order, received: Received, headers: dict[str, str]
) -> None:
    body = {
        "text": order.text,
        "ending": order.ending.name,
        "number": order.number,
        "parts": order.way.parts,
    }
    endpoint = order.way.endpoint
    if order.way.route != STREAM:
        await _ask(client, order, body, received, headers)
        return
    lines = 0
    async with client.stream("POST", order.way.path, json=body, headers=headers) as response:
        received.statuses[endpoint, response.status_code] += 1
        try:
            async with asyncio.timeout(
                _LEAVES_AFTER if order.ending.name == "leaves_before_first_chunk" else None
            ):
                async for line in response.aiter_lines():
                    lines += 1
                    if order.ending.name == "stalled_client" and lines == 1:
                        await asyncio.sleep(_STALL)
                    if order.ending.name == "leaves_mid_stream" and lines == order.way.parts:
                        break
                    if order.ending.name == "leaves_after_last_chunk" and line == LAST:
                        break
        except (httpx.HTTPError, TimeoutError):
            pass  # it broke off, or the user had enough
    received.first_chunks += bool(lines)
    if not order.ending.leaves:
        received.chunks[endpoint] += lines


async def _ask(
    client: httpx.AsyncClient,
    order: Order,
    body: dict[str, object],
    received: Received,
    headers: dict[str, str],
) -> None:
    patience = _LEAVES_AFTER if order.ending.before_response else None
    try:
        async with asyncio.timeout(patience):
            response = await client.post(order.way.path, json=body, headers=headers)
    except TimeoutError:
        received.statuses[order.way.endpoint, order.ending.status] += 1
    else:
        received.statuses[order.way.endpoint, response.status_code] += 1
        if order.way.route == AWAIT and response.status_code != order.ending.status:
            received.surprises.append(f"{order}: answered {response.status_code}")
