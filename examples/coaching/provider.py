"""A local replacement for OpenAI: serves the chat-completions protocol over HTTP, without a model.

Run it with `python provider.py --port 8001`, or embed it with `with Provider() as provider`.
Directives in the user's message control its answers and its failures (see `script`). Its ledger
records what it really sent, in-process as `provider.ledger` and at `GET /ledger`
(`DELETE /ledger` empties it).
"""

import argparse
import json
import selectors
import socket
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from ledger import Entry
from script import Answer, Directions, count_tokens, direct

_MAX_LEDGER = 100_000
"""Entries; older ones are removed, so that a provider that runs for long does not grow."""

_ERRORS = {
    400: ("invalid_request_error", None, "The request is malformed."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "unknown_url", "Unknown request URL."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
    500: ("server_error", None, "The server had an error while processing your request."),
}


class Provider:
    """The provider, which serves inside a `with` block, by default on a free loopback port."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Bind the port; serving starts with the `with` block."""
        self._entries: deque[Entry] = deque(maxlen=_MAX_LEDGER)
        self._server = _Server((host, port), partial(_Handler, self._entries))
        self.url = f"http://{host}:{self._server.server_port}"
        self.base_url = f"{self.url}/v1"
        # A short poll interval, so that leaving the block does not wait.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="provider", daemon=True
        )

    @property
    def ledger(self) -> list[Entry]:
        """The entries of all requests so far, oldest first."""
        return list(self._entries)

    def reset(self) -> None:
        """Empty the ledger."""
        self._entries.clear()

    def __enter__(self) -> Self:
        """Start serving."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving and close the connections that are still open."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A threading server that also closes its keep-alive connections when it is closed."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:  # noqa: ANN401
        self._connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        # Clients that reset their connections are normal, not an error.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Handles the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, entries: deque[Entry], *args: Any) -> None:  # noqa: ANN401
        self._entries = entries
        super().__init__(*args)

    def do_GET(self) -> None:
        if self.path == "/ledger":
            self._send_json(200, [asdict(entry) for entry in tuple(self._entries)])
        else:
            self._send_json(404, _error(404))

    def do_DELETE(self) -> None:
        if self.path == "/ledger":
            self._entries.clear()
            self._send_json(200, [])
        else:
            self._send_json(404, _error(404))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v1/embeddings":
            self._send_json(200, _embeddings(json.loads(body)))
            return
        if self.path != "/v1/chat/completions":
            self._send_json(404, _error(404))
            return
        try:
            request = json.loads(body)
            directions, answer = direct(request["messages"])
            entry = Entry(
                str(request["model"]), bool(request.get("stream")), user=request.get("user")
            )
        except (ValueError, TypeError, LookupError, AttributeError):
            self._send_json(400, _error(400))
            return
        self._entries.append(entry)
        try:
            self._wait(directions.delay)
            self._reply(entry, request, directions, answer)
        except ConnectionError:
            self.close_connection = True
            if entry.outcome != "garbled":  # then the client left because of the garbage
                entry.usage_sent = False
                entry.end("abandoned")

    def _reply(
        self, entry: Entry, request: dict[str, Any], directions: Directions, answer: Answer
    ) -> None:
        if directions.fail is not None:
            entry.status_code = directions.fail
            entry.end("refused")
            self._send_json(directions.fail, _error(directions.fail))
            return
        entry.tool_call = answer.tool
        entry.prompt_tokens = count_tokens(request["messages"])
        entry.cached_tokens = min(directions.cached, entry.prompt_tokens)
        entry.reasoning_tokens = entry.completion_tokens = directions.reasoning
        if entry.stream:
            options: dict[str, Any] = request.get("stream_options") or {}
            usage = bool(options.get("include_usage")) and directions.usage
            self._stream(entry, directions, answer, usage=usage)
        else:
            self._answer(entry, directions, answer)

    def _answer(self, entry: Entry, directions: Directions, answer: Answer) -> None:
        """Send the whole answer as one JSON body."""
        entry.completion_tokens += len(answer.pieces)
        message = _tool_message(entry, answer) if answer.tool else _text_message(answer)
        completion = _envelope(entry, "chat.completion") | {
            "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(answer)}],
        }
        if directions.usage:
            completion["usage"] = _usage(entry)
        body = json.dumps(completion).encode()
        if directions.cut:
            self._send_head(200, "application/json", ("Content-Length", str(len(body))))
            entry.end("cut")
            self.close_connection = True
            self.wfile.write(body[: len(body) // 2])
        elif directions.garbage:
            entry.end("garbled")
            self._send_body(200, body[: len(body) // 2])
        else:
            entry.usage_sent = directions.usage
            entry.end("complete")
            self._send_body(200, body)

    def _stream(self, entry: Entry, directions: Directions, answer: Answer, *, usage: bool) -> None:
        """Send the answer piece by piece as server-sent events."""
        envelope = _envelope(entry, "chat.completion.chunk")
        if usage:
            envelope["usage"] = None

        def send(delta: dict[str, Any], finish_reason: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            self._send_event(json.dumps(envelope | {"choices": [choice]}))

        interrupted = directions.cut or directions.garbage
        pieces = answer.pieces[: len(answer.pieces) // 2] if interrupted else answer.pieces

        self._send_head(200, "text/event-stream", ("Transfer-Encoding", "chunked"))
        send(_first_delta(entry, answer))
        for place, piece in enumerate(pieces):
            self._wait(directions.pace if place else 0)
            send(_delta(piece, answer))
            entry.chunk_sent()
        self._wait(directions.pace)

        if directions.cut:
            entry.end("cut")
            self.close_connection = True
            return
        if directions.garbage:
            self._send_event('{"id": "chatcmpl-')
            entry.end("garbled")
        else:
            send({}, _finish_reason(answer))
            if usage:
                self._send_event(json.dumps(envelope | {"choices": [], "usage": _usage(entry)}))
                entry.usage_sent = True
            entry.end("complete")
        self._send_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _wait(self, seconds: float) -> None:
        """Wait; raises ConnectionAbortedError if the client leaves meanwhile.

        The client sends nothing more before it is answered: if the connection becomes readable,
        the client has closed it.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if selector.select(seconds):
                raise ConnectionAbortedError

    def _send_json(self, status_code: int, content: object) -> None:
        self._send_body(status_code, json.dumps(content).encode())

    def _send_body(self, status_code: int, body: bytes) -> None:
        self._send_head(status_code, "application/json", ("Content-Length", str(len(body))))
        self.wfile.write(body)

    def _send_head(self, status_code: int, content_type: str, framing: tuple[str, str]) -> None:
        self.send_response(status_code)
        self.send_header("Content-Type", content_type)
        self.send_header(*framing)
        self.end_headers()

    def _send_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: the ledger has more details than an access log."""


def _error(status_code: int) -> dict[str, Any]:
    kind, code, message = _ERRORS.get(status_code, _ERRORS[500])
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _embeddings(request: dict[str, Any]) -> dict[str, Any]:
    """Embed each text as its length and its number of words; the ledger has chats only."""
    given = request["input"]
    texts: list[str] = [given] if isinstance(given, str) else given
    data = [
        {"object": "embedding", "index": place, "embedding": [len(text), len(text.split())]}
        for place, text in enumerate(texts)
    ]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request["model"], "usage": usage}


def _envelope(entry: Entry, kind: str) -> dict[str, Any]:
    return {
        "id": entry.id,
        "object": kind,
        "created": int(entry.started),
        "model": entry.model,
    }


def _usage(entry: Entry) -> dict[str, Any]:
    return {
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "total_tokens": entry.prompt_tokens + entry.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": entry.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": entry.reasoning_tokens},
    }


def _text_message(answer: Answer) -> dict[str, Any]:
    return {"role": "assistant", "content": "".join(answer.pieces)}


def _tool_message(entry: Entry, answer: Answer) -> dict[str, Any]:
    function = {"name": answer.tool, "arguments": "".join(answer.pieces)}
    call = {"id": f"call-{entry.id}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _first_delta(entry: Entry, answer: Answer) -> dict[str, Any]:
    """Return a stream's first delta, as OpenAI sends it: a role, or a call without arguments."""
    if not answer.tool:
        return {"role": "assistant", "content": ""}
    opening = _tool_message(entry, Answer([], answer.tool))
    return opening | {"tool_calls": [{"index": 0} | opening["tool_calls"][0]]}


def _delta(piece: str, answer: Answer) -> dict[str, Any]:
    if not answer.tool:
        return {"content": piece}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _finish_reason(answer: Answer) -> str:
    return "tool_calls" if answer.tool else "stop"


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A local OpenAI-compatible provider.")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    with Provider(arguments.port, arguments.host) as provider, suppress(KeyboardInterrupt):
        print(f"OPENAI_BASE_URL={provider.base_url}", flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
