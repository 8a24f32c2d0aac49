"""One HTTP request and its response, as they pass between the server and the application."""

from __future__ import annotations

import math
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Final

from otel_coach.core.guard import guarded, swallowed
from otel_coach.core.request_context import Request
from otel_coach.instrumentors.asgi.ai_requests import (
    Stream,
    is_stream,
    may_have_body,
)
from otel_coach.instrumentors.asgi.answering import REJECTIONS, Answering, Exchanges, unwrapped
from otel_coach.instrumentors.asgi.look_ahead import DISCONNECT, tells_again
from otel_coach.instrumentors.asgi.routes import NO_ROUTE, NotAllowed
from otel_coach.instrumentors.asgi.server_span import (
    SERVER_ERROR,
    Answered,
    end_attributes,
    end_server_span,
    span_name,
)
from otel_coach.metrics.catalogue import HTTP_REQUEST_DURATION
from otel_coach.metrics.labels import (
    ABORTED,
    CLIENT_CLOSED_REQUEST,
    ERROR,
    METHODS,
    OK,
    OTHER,
    OTHER_METHOD,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_coach.core.asgi_types import Message, Receive, Scope, Send
    from otel_coach.instrumentors.asgi.routes import Route, Routes

_METHOD_NOT_ALLOWED: Final = "405"
_LOWEST_STATUS, _HIGHEST_STATUS = 100, 599


class Exchange(Answering):
    """Observes the messages between the server and the application; finished exactly once.

    `receive` and `send` replace the server's callables. All measurements are recorded in `_finish`:
    when the server has taken the final body, or when the call or the lifespan of the application
    has ended without one.
    """

    _request_class = Request
    # Class-level defaults for attributes that most requests never set: they cost nothing.
    span: Span | None = None
    context: Context | None = None
    """The context in which `span` is current."""
    _is_stream = False
    _missing: float | None = None
    """Bytes of the body that are not sent yet; None if its length is not stated, or all come at
    once."""
    _chunks = 0
    _first_chunk: float | None = None
    _has_body = False
    """Whether the application has received the whole body of the request."""
    # Set by `_finish`:
    _outcome = OK
    _seconds = 0.0
    """Since the start of the request."""
    _end_time = 0
    """ns since the epoch."""
    _error_type: str | None = None
    """Name of the exception that ended the request."""

    def __init__(  # noqa: PLR0913, PLR0917 - the arguments of an ASGI call, and shared state
        self,
        shared: Exchanges,
        app: object,
        routes: Routes,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.request = self._request_class(app)
        self.recorder = shared.recorder
        method = scope["method"]
        self.method: str = method if method in METHODS else OTHER_METHOD
        self._shared = shared
        self._routes = routes
        self.app = app
        self._routed = scope
        # Repeats `original_of` and `time_at` inline: test_work.py limits how many functions a
        # request may call.
        self._original = {
            "path": scope["path"],
            "root_path": getattr(app, "root_path", "") or scope.get("root_path", ""),
            "method": method,
            "headers": scope["headers"],
            "query_string": scope.get("query_string", b""),
        }
        self._receive = receive
        self._send = send
        self.request.look_for_client = self._look_for_client
        self._started = perf_counter()
        self.start_time = self.request.start_of_clock + int(self._started * 1e9)
        """ns since the epoch."""

    @property
    def open_streams(self) -> int:
        """1 while this is an AI request whose stream is open, else 0."""
        return int(self._is_stream and self.request.is_ai and not self.finished)

    @guarded
    def _note_received(self, message: Message) -> None:
        if message["type"] == DISCONNECT:
            self._note_disconnect(message)
        elif not message.get("more_body", False):
            self._has_body = True

    def _note_disconnect(self, message: Message) -> None:
        # Some servers report the end of the connection while they take the end of the response.
        if self not in self.recorder.about_to_record:
            self._note_client_left()

    def _look_for_client(self) -> None:
        """Checks whether the client has left, in the midst of the request.

        The server's next message belongs to the application: while the application waits for the
        body, none may be read here. Nor may one be read in another thread than the server's, or
        while the application waits for the disconnect, which most servers tell once only.
        """
        if get_ident() == self.request.thread and self._may_look():
            self._look_ahead()

    def _may_look(self) -> bool:
        return not self._is_receiving or (self._has_body and tells_again(self._receive))

    async def send(self, message: Message) -> None:  # noqa: C901, PLR0912 - one stack frame per chunk
        """Passes `message` to the server, and notes what it is."""
        final = False
        # Does what `guarded` does. That would add 0.17 µs to the 1.2 µs that a chunk takes.
        try:
            if message["type"] != "http.response.body":
                final = self._note_start(message)
            else:
                if self._is_stream and message.get("body") and not self._client_left:
                    self._chunks += 1
                    if self._first_chunk is None:
                        self._first_chunk = perf_counter()
                final = not message.get("more_body", False)
                if final and (self._is_stream or self.request.is_ai):
                    self._look_ahead()
                elif not final and not self._is_stream:
                    self._note_part(message)
        except BaseException as raised:
            if not swallowed(self, raised, "Exchange.send"):
                raise
        if final:
            # A client that has the whole response may scrape before this coroutine resumes. The
            # page is collected in `Recorder.flushed`, which first waits for what is announced here.
            self.recorder.about_to_record.add(self)
        try:
            await self._send(message)
        except OSError:
            # From ASGI spec 2.4 on, servers raise it when the client has disconnected.
            self._note_client_left()
            raise
        else:
            if final:
                self._finish(None)
        finally:
            if final:
                self.recorder.about_to_record.discard(self)

    def _note_part(self, message: Message) -> None:
        """Notes a part of a response whose length is stated.

        A client that leaves when it has all of it has not aborted.
        """
        missing = self._missing
        if missing is None:
            stated = (value for name, value in self._headers if name.lower() == b"content-length")
            missing = int(next(filter(bytes.isdigit, stated), 0)) or math.inf
        missing -= len(message.get("body", b""))
        if missing <= 0 and self.request.is_ai:
            self._look_ahead()  # it may have left before this part, which completes the response
        self._missing = missing

    @guarded
    def ended(self, error: BaseException | None) -> None:
        """Called if the call or the lifespan ended, perhaps by `error`, before the response did."""
        self._look_ahead()
        self._finish(error)

    def _note_start(self, message: Message) -> bool:
        """Returns whether `message`, which is not a body, nevertheless completes the response."""
        if message["type"] != "http.response.start":
            return message["type"] == "http.response.pathsend"
        if self.request.is_ai and not may_have_body(self.method, message["status"]):
            self._look_ahead()  # from now on, the client has its whole answer
        self._status = int(message["status"])  # the text of an enum would be its name
        self.request.is_answering = True
        headers = message.get("headers", ())
        if not isinstance(headers, list | tuple):  # any iterable, which can perhaps be read once
            headers = message["headers"] = list(headers)
        self._headers = headers
        self._is_stream = is_stream(self.method, message["status"], headers)
        return False

    @guarded
    def _note_client_left(self) -> None:
        is_complete = self._missing is not None and self._missing <= 0
        if self.finished or self._client_left or is_complete:
            return
        if not may_have_body(self.method, self._status):
            return
        self._client_left = True
        self.request.abandoned_endpoint = self.route.template
        if self.request.server_span is not None:
            # Without a final body, its instrumentation ends the span before `_finish` runs.
            self.request.server_span.set_attributes(
                end_attributes(self.route, self._status, ABORTED)
            )
            if self.route is not NO_ROUTE:
                self.request.server_span.name(span_name(self.method, self.route))

    @guarded
    def _finish(self, error: BaseException | None) -> None:
        if self.finished:
            return
        request, status = self.request, self._status
        self.finished = request.closed = True
        request.look_for_client = None  # it refers to this exchange: avoids a reference cycle
        self._shared.opened.discard(self)
        ended = perf_counter()
        self._seconds = ended - self._started
        self._end_time = request.start_of_clock + int(ended * 1e9)
        if self._client_left:
            self._outcome = ABORTED
        elif error is not None or status is None or status >= SERVER_ERROR or request.run_failed:
            self._outcome = ERROR
        if error is not None:
            self._error_type = type(unwrapped(error)).__qualname__
        if request.server_span is not None and self.route is not NO_ROUTE:
            # The instrumentation that made the span ends it next.
            request.server_span.set_attributes({"http.route": self.route.template})
            request.server_span.name(span_name(self.method, self.route))
        self._record()
        self.recorder.flush()

    def _record(self) -> None:
        status, route, record = self._status, self.route, self.recorder.record
        endpoint = route.template
        if status is None:
            # Servers send a 500 for an application that ended without a response.
            code = str(CLIENT_CLOSED_REQUEST if self._outcome == ABORTED else SERVER_ERROR)
        else:
            code = str(status) if _LOWEST_STATUS <= status <= _HIGHEST_STATUS else OTHER
        method = self._method_of(route, code)
        record(HTTP_REQUEST_DURATION, self._seconds, (endpoint, method, code), self.context)
        if status in REJECTIONS or endpoint not in self._shared.with_rate_limit_series:
            self._record_rejections(endpoint, method, code)
        request = self.request
        if request.is_ai:
            first_chunk = None if self._first_chunk is None else self._first_chunk - self._started
            stream = Stream(self._chunks, first_chunk) if self._is_stream else None
            self._shared.ai.record(
                request, endpoint, self._outcome, self._seconds, stream, self.context
            )
        if self.span is not None:
            answered = Answered(
                self._end_time, self.method, route, status, self._outcome, self._error_type
            )
            self.recorder.later(end_server_span, self.span, answered)

    def _method_of(self, route: Route, code: str) -> str:
        """Returns the method as a label: `OTHER_METHOD` if the route does not support it.

        Clients may send any method to any path. A preflight request that a middleware answers for
        the route (CORS) keeps its method.
        """
        if code == _METHOD_NOT_ALLOWED:
            return OTHER_METHOD
        if type(route) is NotAllowed and (self.method != "OPTIONS" or code >= "4"):
            return OTHER_METHOD
        return self.method
