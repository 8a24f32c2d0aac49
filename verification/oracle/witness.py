"""An independent witness in the service: the HTTP transport of the model's client.

It does not use LangChain's callbacks. It records each request of the service to the provider: the
order that it belongs to, and whether its answer was read to the end.
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

# The HTTP library of the OpenAI client, which has another name in other versions.
_http: Any = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]

_PIECES = (
    *(b'"content": "', b'"tool_calls"'),
    b'"type": "response.output_text.delta"',
    b'"type": "text_delta"',
)
"""What each piece of an answer has in it, by protocol."""
_FINISHED = (b'"finish_reason": "', b'"type": "response.completed"', b'"stop_reason": "')
"""What the event with the finish reason has in it, by protocol."""
_LAST = (b"data: [DONE]", b'"type": "response.completed"', b'"type": "message_stop"')
"""The last event of a stream, by protocol."""


@dataclass
class Heard:
    """One request of the service to the provider."""

    user: str
    streamed: bool
    chunks: int = 0
    """The pieces of the answer that were read, of its text or of a tool call."""
    finished: bool = False
    """Whether the piece with the finish reason was read."""
    read_to_end: bool = False
    status: int = 0
    """The status of the response; 0 until it begins."""
    failed: bool = False
    """Whether no response began: the connection was refused, or the client's timeout expired."""


_NOTES: list[Heard] = []
_ANSWERED: list[str] = []
_END_OF_EVENT = b"\n\n"


def notes() -> list[dict[str, Any]]:
    """Returns all recorded requests in a form for JSON."""
    return [asdict(heard) for heard in tuple(_NOTES)]


def heard_of(user: str) -> int:
    """Returns the number of requests that the model's client has sent for the order `user`."""
    return sum(heard.user == user for heard in tuple(_NOTES))


def answered(number: str) -> None:
    """Notes that the application has answered an order, which may have no reader any more."""
    _ANSWERED.append(number)


def answers() -> list[str]:
    """Returns the orders that the application has answered."""
    return [*_ANSWERED]


def reset() -> None:
    """Forgets all that was recorded."""
    _NOTES.clear()
    _ANSWERED.clear()


def _hear(request: Any) -> Heard:
    body = json.loads(request.read() or b"{}")
    user = body.get("user") or (body.get("metadata") or {}).get("user_id")
    heard = Heard(str(user), bool(body.get("stream")))
    _NOTES.append(heard)
    return heard


class _Stream(_http.SyncByteStream, _http.AsyncByteStream):
    def __init__(self, stream: Any, heard: Heard) -> None:
        self._stream = stream
        self._heard = heard

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            for event in _events(part):
                self._note(event)
                yield event
        self._heard.read_to_end = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            for event in _events(part):
                self._note(event)
                yield event
        self._heard.read_to_end = True

    def _note(self, part: bytes) -> None:
        self._heard.chunks += sum(map(part.count, _PIECES)) - part.count(b'"content": ""')
        self._heard.finished |= any(reason in part for reason in _FINISHED)
        # A client may stop at the protocol's last event, and not read the end of the stream.
        self._heard.read_to_end |= any(last in part for last in _LAST)

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _events(part: bytes) -> list[bytes]:
    """Splits what came at once, so that an event is noted only when the client asks for it."""
    events = part.split(_END_OF_EVENT)
    return [*(event + _END_OF_EVENT for event in events[:-1]), *filter(None, events[-1:])]


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
    """Returns arguments that make ChatOpenAI use the witness's transports."""
    return {
        "http_client": _http.Client(transport=Transport()),
        "http_async_client": _http.AsyncClient(transport=AsyncTransport()),
    }
