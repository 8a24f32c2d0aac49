"""The WebSocket route of the service under test: each message of the client is an order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from fastapi import WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastapi import FastAPI

TURNS: Final = {
    "turn_astream": "astream",
    "turn_chain": "chain_astream",
    "turn_events": "events_v2",
    "turn_graph": "graph_messages",
    "turn_openai": "openai_stream",
    "turn_task": "graph_messages",
    "turn_ainvoke": "ainvoke",
    "turn_graph_ainvoke": "graph_ainvoke",
    "turn_thread": "invoke",
}
"""By the way of a turn, the way of calling a model that its answer comes from."""
END: Final = "end"
"""The last message of each turn."""


def add_to(app: FastAPI, parts_of: Callable[[str, dict[str, Any]], AsyncIterator[str]]) -> None:
    """Adds the route to `app`; `parts_of` yields the answer to an order, by a way of calling."""

    @app.websocket("/socket/{way}")
    async def socket(websocket: WebSocket, way: str) -> None:
        async def answer(order: dict[str, Any]) -> None:
            try:
                async for part in parts_of(TURNS[way], order):
                    await websocket.send_text(part)
            except WebSocketDisconnect:
                raise
            except Exception:
                if order["ending"] != "hidden":
                    raise
            await websocket.send_text(END)

        await websocket.accept()
        tasks: list[asyncio.Task[None]] = []
        with suppress(WebSocketDisconnect):
            while True:
                order = await websocket.receive_json()
                if way == "turn_task":
                    tasks.append(asyncio.create_task(answer(order)))
                else:
                    await answer(order)
        await asyncio.gather(*tasks, return_exceptions=True)
