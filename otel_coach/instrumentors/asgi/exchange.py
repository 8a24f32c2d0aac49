"""One HTTP request and its response, watched from outside the whole application."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.catalogue import (
    AI_REQUEST_DURATION,
    AI_STREAM_ABORTS,
    AI_STREAM_CHUNKS,
    AI_TIME_TO_FIRST_CHUNK,
    AUTH_FAILURES,
    HTTP_REQUEST_DURATION,
    RATE_LIMIT_HITS,
)
from otel_coach.guards import guarded, swallowed
from otel_coach.instrumentors.asgi.refusals import refusal_reason
from otel_coach.instrumentors.asgi.routes import NO_ROUTE, NotAllowed, Route, Routes, find_route
from otel_coach.instrumentors.asgi.server_span import (
    SERVER_ERROR,
    Answered,
    end_server_span,
    span_facts,
    span_name,
)
from otel_coach.request import Request
from otel_coach.vocabulary import (
    ABORTED,
    CLIENT_CLOSED_REQUEST,
    ERROR,
    INVOKE,
    METHODS,
    NO_MODEL,
    OK,
    OTHER,
    OTHER_METHOD,
    STREAM,
)

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
        Mapping,
        MutableMapping,
    )

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_coach.recorder import Recorder

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Scope = MutableMapping[str, Any]
    Send = Callable[[Message], Awaitable[None]]

_MOST_LOOKED_AHEAD: Final = 8
_MOST_ENDPOINTS: Final = 1000
"""Of which it is remembered that a series exists; an application may make up routes."""
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS = 401, 403, 429
_REFUSALS: Final = frozenset({_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS})
_METHOD_NOT_ALLOWED: Final = "405"
_LOWEST_STATUS, _HIGHEST_STATUS = 100, 599


@dataclass(frozen=True, slots=True)
class Exchanges:
    """What all exchanges of a process share."""

    recorder: Recorder
    credential_headers: frozenset[str]
    opened: set[Exchange]
    """Those that are not finished yet."""
    rate_limited: set[str]
    """Endpoints whose rate_limit.hits series exists."""
    streaming: set[str]
    """Endpoints that streamed AI work once; they keep a 0 where no stream is open."""

    @classmethod
    def new(cls, recorder: Recorder, credential_headers: frozenset[str]) -> Exchanges:
        """Without any request yet."""
        return cls(recorder, credential_headers, set(), set(), set())

    def of(self, app: object) -> list[Exchange]:
        """The application's that are not finished yet."""
        return [exchange for exchange in tuple(self.opened) if exchange.app is app]

    def active_streams(self) -> Mapping[tuple[object, ...], float]:
        """AI streams that are open now, by endpoint."""
        open_now = [e.route.template for e in tuple(self.opened) if e.is_open_ai_stream]
        endpoints = self.streaming.union(open_now)
        return {(endpoint,): open_now.count(endpoint) for endpoint in endpoints}


class Exchange:
    """Notes what passes between the server and the application; finished exactly once.

    `receive` and `send` stand in for the server's. Everything is recorded in `_finish`: when
    the final body was handed to the server, or when the application ended without one.
    """

    # What most requests leave as it is stands in the class, and costs them nothing.
    span: Span | None = None
    context: Context | None = None
    """That holds `span`."""
    finished = False
    _looked_ahead: deque[Message] | None = None
    _route: Route | None = None
    _status: int | None = None
    _headers: Iterable[tuple[bytes, bytes]] = ()
    _is_stream = False
    _chunks = 0
    _first_chunk: float | None = None
    _client_left = False
    # Known when it is finished:
    _outcome = OK
    _seconds = 0.0
    """From its start."""
    _end_time = 0
    """ns since the epoch."""
    _error_type: str | None = None
    """Of the exception that ended it."""

    def __init__(  # noqa: PLR0913, PLR0917 - what an ASGI call has, and what all of them share
        self,
        shared: Exchanges,
        app: object,
        routes: Routes,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.request = Request(app)
        self.recorder = shared.recorder
        method = scope["method"]
        self.method: str = method if method in METHODS else OTHER_METHOD
        self._shared = shared
        self._routes = routes
        self.app = app
        self._routed = scope
        # The application changes its scope, as do middlewares; these are what was asked, but for
        # the root path that FastAPI sets itself, after us.
        self._asked = {
            "path": scope["path"],
            "root_path": getattr(app, "root_path", "") or scope.get("root_path", ""),
            "method": method,
            "headers": scope["headers"],
            "query_string": scope.get("query_string", b""),
        }
        self._receive = receive
        self._send = send
        self._started = perf_counter()
        # As `time_at` does, without a call.
        self.start_time = self.request.start_of_clock + int(self._started * 1e9)
        """ns since the epoch."""

    @property
    def route(self) -> Route:
        """The route that answers, found when it is first needed."""
        if self._route is None:
            self._route = NO_ROUTE  # while it is looked up, and where that fails
            self._find_route()
        return self._route

    @guarded  # a route's own convertor may raise for a path: the request is counted all the same
    def _find_route(self) -> None:
        self._route = self._routes.find(self.app, self._asked, self._routed)

    @guarded
    def _dependant(self) -> Any:
        """Of FastAPI's route, with what the routers around it depend on."""
        return find_route(self.app, self._scope).dependant

    @property
    def _scope(self) -> Scope:
        """As it was before routing, in all that counts here."""
        return {**self._routed, **self._asked}

    @property
    def is_open_ai_stream(self) -> bool:
        """Whether a stream of an AI request is open now."""
        return self._is_stream and self.request.is_ai and not self.finished

    async def receive(self) -> Message:
        """The server's next message, noting that the client left."""
        message = self._looked_ahead.popleft() if self._looked_ahead else await self._receive()
        self._note_received(message)
        return message

    @guarded
    def _note_received(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._note_client_left()

    async def send(self, message: Message) -> None:  # noqa: C901, PLR0912 - one frame a chunk
        """Hand `message` to the server, noting what it is."""
        final = False
        try:  # every chunk passes here: `guarded`, but without its cost
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
        except BaseException as raised:
            if not swallowed(self, raised, "Exchange.send"):
                raise
        if final:
            # Whoever has the whole answer may look at the figures before this coroutine goes on.
            self.recorder.about_to_record.add(self)
        try:
            await self._send(message)
        except OSError:
            # How servers of ASGI spec 2.4 say that the client is gone.
            self._note_client_left()
            raise
        else:
            if final:
                self._finish(None)
        finally:
            if final:
                self.recorder.about_to_record.discard(self)

    @guarded
    def ended(self, error: BaseException | None) -> None:
        """The application returned, or raised `error`, before the response was complete."""
        self._look_ahead()
        self._finish(error)

    def _note_start(self, message: Message) -> bool:
        """Whether `message`, which is no body, is the last of the response all the same."""
        if message["type"] != "http.response.start":
            return message["type"] == "http.response.pathsend"
        self._status = message["status"]
        headers = message.get("headers", ())
        if not isinstance(headers, list | tuple):
            # Any iterable may be sent; this one can perhaps be read only once.
            headers = message["headers"] = list(headers)
        self._headers = headers
        self._is_stream = True
        for name, _ in headers:
            if name.lower() == b"content-length":
                self._is_stream = False
                break
        return False

    @guarded
    def _note_client_left(self) -> None:
        if self.finished or self._client_left:
            return
        self._client_left = True
        if self.request.server_span is not None:
            # Whoever made it ends it before `_finish` runs.
            self.request.server_span.set_attributes(span_facts(self.route, self._status, ABORTED))
            if self.route is not NO_ROUTE:
                self.request.server_span.name(span_name(self.method, self.route))

    @guarded
    def _look_ahead(self) -> None:
        """Learn whether the client has left, without waiting.

        What is read is kept for the application. A receive that would wait is closed at its
        first step, as a cancelled one would be; only a coroutine on asyncio can be.
        """
        if not (runs_asyncio() and inspect.iscoroutinefunction(self._receive)):
            return
        ahead = self._looked_ahead = self._looked_ahead or deque()
        while not self._client_left and len(ahead) < _MOST_LOOKED_AHEAD:
            step = cast("Coroutine[Any, Any, Message]", self._receive())
            try:
                step.send(None)
            except StopIteration as stop:
                message: Message = stop.value
                ahead.append(message)
                if message["type"] == "http.disconnect":
                    self._note_client_left()
            else:
                step.close()
                return

    @guarded
    def _finish(self, error: BaseException | None) -> None:
        if self.finished:
            return
        request, status = self.request, self._status
        self.finished = request.closed = True
        self._shared.opened.discard(self)
        ended = perf_counter()
        self._seconds = ended - self._started
        self._end_time = request.start_of_clock + int(ended * 1e9)
        if self._client_left:
            self._outcome = ABORTED
        elif error is not None or status is None or status >= SERVER_ERROR or request.run_failed:
            self._outcome = ERROR
        if error is not None:
            self._error_type = type(_only_one(error)).__qualname__
        if request.server_span is not None and self.route is not NO_ROUTE:
            # Whoever made it ends it next.
            request.server_span.set_attributes({"http.route": self.route.template})
            request.server_span.name(span_name(self.method, self.route))
        self._record()
        self.recorder.settle()

    def _record(self) -> None:
        status, route, record = self._status, self.route, self.recorder.record
        endpoint = route.template
        if status is None:
            # Servers answer 500 for an application that ended without a response.
            code = str(CLIENT_CLOSED_REQUEST if self._outcome == ABORTED else SERVER_ERROR)
        else:
            code = str(status) if _LOWEST_STATUS <= status <= _HIGHEST_STATUS else OTHER
        method = self._method_of(route, code)
        record(HTTP_REQUEST_DURATION, self._seconds, (endpoint, method, code), self.context)
        if status in _REFUSALS or endpoint not in self._shared.rate_limited:
            self._record_refusal(endpoint, code)
        if self.request.is_ai:
            self._record_ai_request(endpoint)
        if self.span is not None:
            answered = Answered(
                self._end_time, self.method, route, status, self._outcome, self._error_type
            )
            self.recorder.later(end_server_span, self.span, answered)

    def _method_of(self, route: Route, code: str) -> str:
        """The method as a label: `OTHER_METHOD` where the route does not answer it.

        A stranger may send any method to any path. A preflight that a middleware answers for the
        route (CORS) keeps its own.
        """
        if code == _METHOD_NOT_ALLOWED:
            return OTHER_METHOD
        if type(route) is NotAllowed and (self.method != "OPTIONS" or code >= "4"):
            return OTHER_METHOD
        return self.method

    def _record_ai_request(self, endpoint: str) -> None:
        request, record, context = self.request, self.recorder.record, self.context
        mode = request.mode or (STREAM if self._is_stream else INVOKE)
        labels = (endpoint, request.model or NO_MODEL, mode)
        record(AI_REQUEST_DURATION, self._seconds, (*labels, self._outcome), context)
        if not self._is_stream:
            return
        streaming = self._shared.streaming
        if len(streaming) < _MOST_ENDPOINTS:
            streaming.add(endpoint)
        record(AI_STREAM_CHUNKS, self._chunks, (*labels, self._outcome), context)
        # Also with 0: an alert's rate() needs the series before the first abort.
        record(AI_STREAM_ABORTS, int(self._outcome == ABORTED), (*labels, ABORTED), context)
        if self._first_chunk is not None:
            record(AI_TIME_TO_FIRST_CHUNK, self._first_chunk - self._started, labels, context)

    def _record_refusal(self, endpoint: str, code: str) -> None:
        record, shared = self.recorder.record, self._shared
        if self._status in {_UNAUTHORIZED, _FORBIDDEN}:
            reason = refusal_reason(
                self._scope, self._headers, shared.credential_headers, self._dependant()
            )
            record(AUTH_FAILURES, 1, (endpoint, self._method_of(self.route, code), code, reason))
        limited = self._status == _TOO_MANY_REQUESTS
        known = shared.rate_limited
        is_new = endpoint not in known and len(known) < _MOST_ENDPOINTS
        if is_new:
            known.add(endpoint)
        if limited or is_new:
            record(RATE_LIMIT_HITS, int(limited), (endpoint,))


def _only_one(error: BaseException) -> BaseException:
    """The exception inside, where a task group wrapped a single one."""
    while isinstance(error, BaseExceptionGroup):
        inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(inside) != 1:
            break
        error = inside[0]
    return error


def runs_asyncio() -> bool:
    """Whether the event loop here is asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
