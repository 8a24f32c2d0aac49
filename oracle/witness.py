"""An independent witness inside the service: the model client's own HTTP transport.

It knows nothing of LangChain's callbacks. It notes each request that the service made of its
provider, whose it was, and whether its answer was read to the end.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

# The HTTP library under the OpenAI client, which changed its name between versions.
_http: Any = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]


@dataclass
class Heard:
    """One request of the service to its provider."""

    user: str
    streamed: bool
    chunks: int = 0
    """Pieces of the answer, of its text or of a tool call, that were read."""
    read_to_end: bool = False
    status: int = 0
    """Of the answer; 0 before it began."""
    failed: bool = False
    """No answer began: nobody listened, or the client gave up waiting."""


_NOTES: list[Heard] = []


def notes() -> list[dict[str, Any]]:
    """All that was heard, as JSON has it."""
    return [asdict(heard) for heard in tuple(_NOTES)]


def heard_of(user: str) -> int:
    """How many requests of that user's order have reached the model's client."""
    return sum(heard.user == user for heard in tuple(_NOTES))


def reset() -> None:
    """Forget it."""
    _NOTES.clear()


def _hear(request: Any) -> Heard:
    body = json.loads(request.read() or b"{}")
    heard = Heard(str(body.get("user")), bool(body.get("stream")))
    _NOTES.append(heard)
    return heard


class _Stream(_http.SyncByteStream, _http.AsyncByteStream):
    def __init__(self, stream: Any, heard: Heard) -> None:
        self._stream = stream
        self._heard = heard

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._note(part)
            yield part
        self._heard.read_to_end = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._note(part)
            yield part
        self._heard.read_to_end = True

    def _note(self, part: bytes) -> None:
        self._heard.chunks += part.count(b'"content": "') - part.count(b'"content": ""')
        self._heard.chunks += part.count(b'"tool_calls"')
        # A client may stop at the protocol's last event, without reading the stream's own end.
        self._heard.read_to_end |= b"data: [DONE]" in part

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _hearing(request: Any) -> Generator[Heard]:
    heard = _hear(request)
    try:
        yield heard
    except Exception:
        heard.failed = True
        raise


def _listening(response: Any, heard: Heard) -> Any:
    heard.status = response.status_code
    response.stream = _Stream(response.stream, heard)
    return response


class Transport(_http.HTTPTransport):
    def handle_request(self, request: Any) -> Any:
        with _hearing(request) as heard:
            return _listening(super().handle_request(request), heard)


class AsyncTransport(_http.AsyncHTTPTransport):
    async def handle_async_request(self, request: Any) -> Any:
        with _hearing(request) as heard:
            return _listening(await super().handle_async_request(request), heard)


def clients() -> dict[str, Any]:
    """The arguments by which ChatOpenAI uses the witness."""
    return {
        "http_client": _http.Client(transport=Transport()),
        "http_async_client": _http.AsyncClient(transport=AsyncTransport()),
    }
