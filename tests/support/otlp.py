"""A small OTLP/HTTP receiver: the spans that left the process, as they left it."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class ReceivedSpan:
    """One exported span. Times are nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    scope: str
    start: int
    end: int
    attributes: dict[str, object]
    is_error: bool
    status_message: str
    events: list[str] = field(default_factory=list)


def _takes_all(_path: str, _body: bytes) -> int:
    return 200


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # by default 5: of many that connect at once, some would be reset


class Receiver:
    """Receives traces on a loopback port inside a `with` block.

    `answers` says with which status, given path and body; it may take its time.
    """

    def __init__(self, answers: Callable[[str, bytes], int] = _takes_all) -> None:
        self.answers = answers
        self.requests: list[tuple[str, bytes]] = []
        """Path and body, decompressed, of all that came and was taken."""
        self.refused: list[tuple[str, bytes]] = []
        """Of what was answered with another status than 200."""
        self.connections: list[int] = []
        """The sender's port of each of `requests`."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps its connections, as a Collector does

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # its sender ended in the middle: nothing was received
                    self.close_connection = True
                    return
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                status = answers(self.path, body)
                if status == 200:
                    receiver.connections.append(self.client_address[1])
                taken = receiver.requests if status == 200 else receiver.refused
                taken.append((self.path, body))
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans so far, in the order of their starts."""
        return self.spans_since(0)

    def spans_since(self, request: int) -> list[ReceivedSpan]:
        """The spans that came with `requests[request]` and later, in the order of their starts."""
        spans: list[ReceivedSpan] = []
        for path, body in self.requests[request:]:
            if path == "/v1/traces":
                spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
        return sorted(spans, key=lambda span: span.start)


def _spans(request: ExportTraceServiceRequest) -> Iterable[ReceivedSpan]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _received(scope.scope.name, span)


def _received(scope: str, span: Span) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        scope=scope,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        status_message=span.status.message,
        events=[event.name for event in span.events],
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
