"""One server for all providers' addresses, with a ledger of what each call was billed."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

WAIT = 0.3
"""Seconds from what opens a stream to its first content, and so the least time to first token."""
PACE = 0.2
"""Seconds from the first content to the rest of the stream."""


class Pause:
    """What a stream yields in place of bytes: the server waits there."""


FIRST = Pause()
"""Before the first content."""
THEN = Pause()
"""After the first content."""
CUT = Pause()
"""The connection breaks here."""


@dataclass(frozen=True)
class Answer:
    """What the provider answers to one call, and bills for it.

    The counts are numbers that occur nowhere else, so that it can be seen whether one was handed
    over at all. `prompt` has the cached and written tokens in it, `completion` the reasoning.
    """

    text: str = "Easy run."
    reasoning: str = ""
    tool: str = ""
    """The name of a tool that is to be called, in place of a text."""
    prompt: int = 1013
    completion: int = 211
    cached: int = 419
    cache_write: int = 0
    reasoned: int = 67
    tier: str | None = None
    finish: str | None = None
    """The provider's own word, if it is not its usual one."""
    cost: float | None = None
    usage: str = "once"
    """once; never; running: totals so far in each chunk; zero: 0 of all."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further parts of the usage block, or of the answer, by protocol."""
    cut: bool = False
    """The connection breaks after the first content."""

    @property
    def words(self) -> list[str]:
        """The text in pieces: the first, and the rest."""
        first, _, rest = self.text.partition(" ")
        return [first, f" {rest}"] if rest else [first]


@dataclass
class Call:
    """One line of the ledger."""

    host: str
    path: str
    answer: Answer
    model: str = ""
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    tier: str | None = None
    finish: str = ""
    is_stream: bool = False
    has_usage: bool = True
    at: float = field(default_factory=time.perf_counter)
    first_content: float | None = None
    ended: float = 0.0

    def bill(self, *, cached: bool = True, reasoning: bool = True, writes: bool = True) -> Answer:
        """Writes down what this protocol can say of the answer, and returns exactly that."""
        said = replace(
            self.answer,
            cached=self.answer.cached if cached else 0,
            reasoned=self.answer.reasoned if reasoning else 0,
            cache_write=self.answer.cache_write if writes else 0,
        )
        self.prompt, self.completion = said.prompt, said.completion
        self.cached, self.reasoning = said.cached, said.reasoned
        self.cache_write, self.tier = said.cache_write, said.tier
        self.has_usage = said.usage != "never"
        return said


@dataclass(frozen=True)
class Ask:
    """A request."""

    host: str
    path: str
    body: dict[str, Any]

    @property
    def tools(self) -> Any:
        """The tools that are bound."""
        return self.body.get("tools") or self.body.get("toolConfig")


@dataclass(frozen=True)
class Reply:
    """A whole body, or the parts of a stream."""

    body: bytes | Iterator[bytes | Pause]
    content_type: str = "application/json"


def whole(value: Any) -> Reply:
    """A JSON answer."""
    return Reply(json.dumps(value).encode())


Route = tuple[str, str, "Callable[[Ask, Call], Reply]"]
"""Regular expressions for host and path, and what answers there."""


class Double:
    """Serves TLS (given a context) and plain HTTP on two loopback ports, inside a `with` block."""

    def __init__(self, routes: list[Route], context: ssl.SSLContext | None) -> None:
        self.routes = routes
        self.ledger: list[Call] = []
        self.answers: deque[Answer] = deque()
        """What the next calls are answered, each once; then all as `Answer()`."""
        self.waits = True
        """Whether streams pause."""
        handler = type("Handler", (_Handler,), {"double": self})
        self._servers = [_Server(("127.0.0.1", 0), handler, None)]
        if context is not None:
            self._servers.append(_Server(("127.0.0.1", 0), handler, context))
        self.http_port, *_, self.tls_port = [server.server_port for server in self._servers]

    def script(self, *answers: Answer) -> None:
        """Forgets the ledger, and answers the next calls so."""
        self.ledger.clear()
        self.answers = deque(answers)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def reply(self, ask: Ask) -> tuple[Reply, Call]:
        """Returns the reply to `ask`, and its line in the ledger.

        Raises:
            LookupError: nothing answers there.
        """
        for host, path, answering in self.routes:
            if re.fullmatch(host, ask.host) and re.fullmatch(path, ask.path):
                call = Call(ask.host, ask.path, Answer())
                if ask.body:
                    call.answer = self.answers.popleft() if self.answers else Answer()
                    call.model = str(ask.body.get("model", ""))
                    call.is_stream = bool(ask.body.get("stream"))
                    self.ledger.append(call)
                return answering(ask, call), call
        message = f"nothing answers at {ask.host}{ask.path}"
        raise LookupError(message)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: Any, handler: Any, context: ssl.SSLContext | None) -> None:
        super().__init__(address, handler)
        self.context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is None:
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: Double

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            self._answer(b"".join(self._chunks()))
        else:
            self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, body: bytes) -> None:
        host = self.headers.get("host", "").partition(":")[0]
        path = self.path.partition("?")[0]
        try:
            reply, call = self.double.reply(Ask(host, path, json.loads(body) if body else {}))
        except LookupError as error:
            self._whole(404, Reply(json.dumps({"error": {"message": str(error)}}).encode()))
            return
        if isinstance(reply.body, bytes):
            self._whole(200, reply)
        else:
            call.is_stream = True
            self._stream(reply, call)
        call.ended = time.perf_counter()

    def _whole(self, status: int, reply: Reply) -> None:
        self.send_response(status)
        self.send_header("content-type", reply.content_type)
        self.send_header("content-length", str(len(reply.body)))  # type: ignore[arg-type]
        self.end_headers()
        self.wfile.write(reply.body)  # type: ignore[arg-type]

    def _stream(self, reply: Reply, call: Call) -> None:
        self.send_response(200)
        self.send_header("content-type", reply.content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for part in reply.body:
            if part is FIRST:
                time.sleep(WAIT * self.double.waits)
                call.first_content = time.perf_counter()
            elif part is THEN:
                time.sleep(PACE * self.double.waits)
            elif part is CUT:
                self.close_connection = True
                return
            else:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))  # type: ignore[arg-type]
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


def sse(value: Any, event: str = "") -> bytes:
    """A server-sent event."""
    data = value if isinstance(value, str) else json.dumps(value)
    return f"{f'event: {event}' + chr(10) if event else ''}data: {data}\n\n".encode()


SSE = "text/event-stream"
