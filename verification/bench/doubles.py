"""Doubles of the servers that the service calls, as cheap as possible, on one port.

They are a model provider with OpenAI's chat completions and the same answer for all requests, and
an OTLP/HTTP receiver that reads and discards. Usage: `python -m verification.bench.doubles PORT`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

CHUNKS: Final = 50


def _event(**choice: object) -> bytes:
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "finish_reason": None, **choice}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _chunked(*blocks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in (*blocks, b""))


_USAGE: Final = {
    "id": "chatcmpl-bench",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "gpt-4o-mini",
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS},
}
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + _chunked(
        *(_event(delta={"role": "assistant", "content": f"word{n} "}) for n in range(CHUNKS)),
        _event(delta={}, finish_reason="stop"),
        b"data: " + json.dumps(_USAGE).encode() + b"\n\n",
        b"data: [DONE]\n\n",
    )
)
_EMPTY: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or b"0"))
            writer.write(_STREAM if b"/chat/completions" in head else _EMPTY)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
