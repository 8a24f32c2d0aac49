"""A provider for tests that speaks OpenAI's protocol on this machine, and answers by a script."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_HOST: Final = "127.0.0.1"
_CHAT, _EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
_TOKEN: Final = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class ToolCall:
    """An answer: the model asks for the tool `name` with these arguments."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class Failure:
    """An answer: an error with that HTTP status."""

    status: int = 500
    message: str = "a failure of the script"


@dataclass(frozen=True)
class Call:
    """A request to the provider, and what its answer was billed."""

    model: str
    is_stream: bool
    messages: tuple[Mapping[str, Any], ...]
    """The messages of a chat; of an embedding, one with the texts."""
    status: int
    prompt_tokens: int
    """The words of all messages."""
    completion_tokens: int
    """The words of the answer, or of a tool call's arguments; 0 for a failure."""


class ScriptedProvider:
    """Answers chats, whole or streamed, and embeddings, inside a `with` block.

        with ScriptedProvider("Run easy.", Failure(429), ToolCall("weather")) as provider:
            model = ChatOpenAI(base_url=provider.base_url, api_key="any", max_retries=0)

    Each chat gets the next answer of the script, and the last one again when the script is over. A
    word is a token. Embeddings are answered without the script.

    Args:
        script: texts, tool calls and failures; by default the text "ok".
        pace: seconds between two pieces of a stream.
    """

    def __init__(self, *script: str | ToolCall | Failure, pace: float = 0.0) -> None:
        self.script = [*script] or ["ok"]
        """What is answered; it may be replaced or extended at any time."""
        self.pace = pace
        self.calls: list[Call] = []
        """All requests so far, in the order in which their answers began."""
        self._next = 0
        self._lock = threading.Lock()
        self._server = _Server((_HOST, 0), partial(_Handler, self, self._next_answer))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="scripted-provider", daemon=True
        )

    @property
    def base_url(self) -> str:
        """The address for `ChatOpenAI(base_url=...)` and `OPENAI_BASE_URL`."""
        return f"http://{_HOST}:{self._server.server_port}/v1"

    @property
    def gateways(self) -> dict[str, str]:
        """For `Settings(gateways=...)`: the models have OpenAI's prices."""
        return {f"{_HOST}:{self._server.server_port}": "openai"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next_answer(self) -> str | ToolCall | Failure:
        with self._lock:
            place = min(self._next, len(self.script) - 1)
            self._next = place + 1
            return self.script[place]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection open

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error of the provider's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(
        self,
        provider: ScriptedProvider,
        next_answer: Callable[[], str | ToolCall | Failure],
        *args: Any,
    ) -> None:
        self._provider = provider
        self._next_answer = next_answer
        super().__init__(*args)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        begin = {_CHAT: self._chat, _EMBEDDINGS: self._embed}.get(self.path.partition("?")[0])
        if begin is None:
            what = f"the scripted provider knows {_CHAT} and {_EMBEDDINGS} only"
            self._fail(Failure(404, what))
            return
        begin(json.loads(body))

    def _chat(self, asked: dict[str, Any]) -> None:
        answer = self._next_answer()
        pieces = _pieces(answer)
        call = Call(
            str(asked["model"]),
            bool(asked.get("stream")),
            tuple(asked["messages"]),
            answer.status if isinstance(answer, Failure) else 200,
            0 if isinstance(answer, Failure) else sum(map(_words, asked["messages"])),
            len(pieces),
        )
        self._provider.calls.append(call)
        if isinstance(answer, Failure):
            self._fail(answer)
        elif call.is_stream:
            options = asked.get("stream_options") or {}
            self._stream(call, answer, pieces, usage=bool(options.get("include_usage")))
        else:
            reason = "tool_calls" if isinstance(answer, ToolCall) else "stop"
            choice = {"index": 0, "message": _message(answer), "finish_reason": reason}
            whole = _head(call, "chat.completion") | {"choices": [choice], "usage": _usage(call)}
            self._send_json(200, whole)

    def _embed(self, asked: dict[str, Any]) -> None:
        given = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        tokens = sum(len(one.split()) if isinstance(one, str) else len(one) for one in given)
        messages = ({"role": "user", "content": str(given)},)
        self._provider.calls.append(Call(str(asked["model"]), False, messages, 200, tokens, 0))  # noqa: FBT003 - is_stream
        data = [
            {"object": "embedding", "index": place, "embedding": [float(len(one)), 1.0]}
            for place, one in enumerate(given)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        whole = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
        self._send_json(200, whole)

    def _stream(
        self, call: Call, answer: str | ToolCall, pieces: list[str], *, usage: bool
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head = _head(call, "chat.completion.chunk")
        for place, delta in enumerate(_deltas(answer, pieces)):
            if place:
                time.sleep(self._provider.pace)
            self._event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        reason = "tool_calls" if isinstance(answer, ToolCall) else "stop"
        self._event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if usage:
            self._event(head | {"choices": [], "usage": _usage(call)})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(event)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _fail(self, failure: Failure) -> None:
        kind = HTTPStatus(failure.status).name.lower()
        error = {"message": failure.message, "type": kind, "code": None, "param": None}
        self._send_json(failure.status, {"error": error})

    def _send_json(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing: `calls` has what was asked."""


def _pieces(answer: str | ToolCall | Failure) -> list[str]:
    if isinstance(answer, Failure):
        return []
    return _TOKEN.findall(answer if isinstance(answer, str) else json.dumps(dict(answer.arguments)))


def _message(answer: str | ToolCall) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"role": "assistant", "content": answer}
    function = {"name": answer.name, "arguments": json.dumps(dict(answer.arguments))}
    call = {"id": f"call_{uuid4().hex}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _deltas(answer: str | ToolCall, pieces: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the changes of a stream: first the role, or the call without its arguments."""
    if isinstance(answer, str):
        yield {"role": "assistant", "content": ""}
        yield from ({"content": piece} for piece in pieces)
        return
    opening = _message(answer)
    opening["tool_calls"][0]["function"]["arguments"] = ""
    opening["tool_calls"][0]["index"] = 0
    yield opening
    yield from ({"tool_calls": [{"index": 0, "function": {"arguments": p}}]} for p in pieces)


def _head(call: Call, kind: str) -> dict[str, Any]:
    created = int(time.time())
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": created} | {
        "model": call.model
    }


def _usage(call: Call) -> dict[str, int]:
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "total_tokens": call.prompt_tokens + call.completion_tokens,
    }


def _words(message: Mapping[str, Any]) -> int:
    content = message.get("content") or ""
    if isinstance(content, str):
        return len(content.split())
    return sum(len(part.get("text", "").split()) for part in content)
