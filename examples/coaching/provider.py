"""A local replacement for OpenAI: serves its chats, responses and embeddings, without a model.

Run it with `python provider.py --port 8001`, or embed it with `with Provider() as provider`.
Directives in the user's message, or in a text to embed, control its answers and its failures (see
`script`). Its ledger records what it really sent, in-process as `provider.ledger` and at
`GET /ledger` (`DELETE /ledger` empties it).
"""

import argparse
import json
import selectors
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from dialects import ChatCompletions, Dialect, Responses
from ledger import Entry
from script import Answer, Directions, count_tokens, count_tokens_to_embed, direct

_MAX_LEDGER = 100_000
"""Entries; older ones are removed, so that a provider that runs for long does not grow."""

DIALECTS: dict[str, type[Dialect]] = {
    "/v1/chat/completions": ChatCompletions,
    "/v1/responses": Responses,
}
"""By path, the protocol that is spoken there."""


class Provider:
    """The provider, which serves inside a `with` block, by default on a free loopback port.

    `dialects` are further protocols, by path.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        dialects: Mapping[str, type[Dialect]] | None = None,
    ) -> None:
        """Bind the port; serving starts with the `with` block."""
        self._entries: deque[Entry] = deque(maxlen=_MAX_LEDGER)
        spoken = DIALECTS | dict(dialects or {})
        self._server = _Server((host, port), partial(_Handler, self._entries, spoken))
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

    def __init__(
        self,
        entries: deque[Entry],
        dialects: Mapping[str, type[Dialect]],
        *args: Any,  # noqa: ANN401
    ) -> None:
        self._entries = entries
        self._dialects = dialects
        super().__init__(*args)

    def do_GET(self) -> None:
        if self.path == "/ledger":
            self._send_json(200, [asdict(entry) for entry in tuple(self._entries)])
        else:
            self._send_json(404, ChatCompletions.error(404))

    def do_DELETE(self) -> None:
        if self.path == "/ledger":
            self._entries.clear()
            self._send_json(200, [])
        else:
            self._send_json(404, ChatCompletions.error(404))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        kind = ChatCompletions if path == "/v1/embeddings" else self._dialects.get(path)
        if kind is None:
            self._send_json(404, ChatCompletions.error(404))
            return
        begin = self._embed if path == "/v1/embeddings" else partial(self._chat, kind)
        try:
            entry, directions, reply = begin(json.loads(body))
        except (ValueError, TypeError, LookupError, AttributeError):
            self._send_json(400, kind.error(400))
            return
        self._entries.append(entry)
        try:
            self._wait(directions.delay)
            if directions.fail is not None:
                entry.status_code = directions.fail
                entry.end("refused")
                self._send_json(directions.fail, kind.error(directions.fail))
            else:
                reply()
        except ConnectionError:
            self.close_connection = True
            if entry.outcome != "garbled":  # then the client left because of the garbage
                entry.usage_sent = False
                entry.end("abandoned")

    def _chat(
        self, kind: type[Dialect], request: dict[str, Any]
    ) -> tuple[Entry, Directions, Callable[[], None]]:
        dialect = kind(request)
        directions, answer = direct(dialect.messages)
        entry = Entry(str(request["model"]), bool(request.get("stream")), user=dialect.user)
        return entry, directions, partial(self._reply, entry, dialect, directions, answer)

    def _embed(self, request: dict[str, Any]) -> tuple[Entry, Directions, Callable[[], None]]:
        given = request["input"] if isinstance(request["input"], list) else [request["input"]]
        directions = Directions.read(" ".join(part for part in given if isinstance(part, str)))
        entry = Entry(
            str(request["model"]), stream=False, user=request.get("user"), kind="embeddings"
        )
        return entry, directions, partial(self._send_vectors, entry, given, directions)

    def _send_vectors(self, entry: Entry, given: list[Any], directions: Directions) -> None:
        """Embed each text as its length and its number of words."""
        entry.prompt_tokens = count_tokens_to_embed(given)
        data = [
            {
                "object": "embedding",
                "index": place,
                "embedding": [len(part), count_tokens_to_embed([part])],
            }
            for place, part in enumerate(given)
        ]
        content: dict[str, Any] = {"object": "list", "data": data, "model": entry.model}
        if directions.usage:
            content["usage"] = {
                "prompt_tokens": entry.prompt_tokens,
                "total_tokens": entry.prompt_tokens,
            }
        self._send_whole(entry, directions, content)

    def _reply(
        self, entry: Entry, dialect: Dialect, directions: Directions, answer: Answer
    ) -> None:
        entry.tool_call = answer.tool
        entry.prompt_tokens = count_tokens(dialect.messages)
        entry.cached_tokens = min(directions.cached, entry.prompt_tokens)
        entry.reasoning_tokens = entry.completion_tokens = directions.reasoning
        if entry.stream:
            self._stream(entry, dialect, directions, answer)
        else:
            self._answer(entry, dialect, directions, answer)

    def _answer(
        self, entry: Entry, dialect: Dialect, directions: Directions, answer: Answer
    ) -> None:
        """Send the whole answer as one JSON body."""
        entry.completion_tokens += len(answer.pieces)
        self._send_whole(entry, directions, dialect.whole(entry, answer, usage=directions.usage))

    def _send_whole(self, entry: Entry, directions: Directions, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
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

    def _stream(
        self, entry: Entry, dialect: Dialect, directions: Directions, answer: Answer
    ) -> None:
        """Send the answer piece by piece as server-sent events."""
        usage = dialect.streams_usage and directions.usage
        interrupted = directions.cut or directions.garbage
        pieces = answer.pieces[: len(answer.pieces) // 2] if interrupted else answer.pieces

        self._send_head(200, "text/event-stream", ("Transfer-Encoding", "chunked"))
        for event in dialect.opening(entry, answer, usage=usage):
            self._send_event(dialect.frame(event))
        for place, piece in enumerate(pieces):
            self._wait(directions.pace if place else 0)
            self._send_event(dialect.frame(dialect.piece(entry, answer, piece)))
            entry.chunk_sent()
        self._wait(directions.pace)

        if directions.cut:
            entry.end("cut")
            self.close_connection = True
            return
        if directions.garbage:
            self._send_event(dialect.garbage)
            entry.end("garbled")
        else:
            for event in dialect.closing(entry, answer, usage=usage):
                self._send_event(dialect.frame(event))
            entry.usage_sent = usage
            entry.end("complete")
        if dialect.last_event is not None:
            self._send_event(f"data: {dialect.last_event}\n\n")
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

    def _send_event(self, frame: str) -> None:
        event = frame.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: the ledger has more details than an access log."""


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
