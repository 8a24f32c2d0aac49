"""What requests and WebSockets have in common: their route, the server's messages, a refusal."""

from __future__ import annotations

from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.core.guard import guarded
from otel_coach.core.record import record
from otel_coach.instrumentors.asgi.ai_requests import MAX_REMEMBERED, AiRequests
from otel_coach.instrumentors.asgi.auth_failures import auth_failure_reason
from otel_coach.instrumentors.asgi.look_ahead import (
    DISCONNECTS,
    MAX_AHEAD,
    can_look_ahead,
    message_now,
)
from otel_coach.instrumentors.asgi.routes import NO_ROUTE, Route, Routes, find_route
from otel_coach.metrics.catalogue import AUTH_FAILURES, RATE_LIMIT_HITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_coach.core.asgi_types import Message, Receive, Scope
    from otel_coach.metrics.recorder import Recorder

_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS = 401, 403, 429
REJECTIONS: Final = frozenset({_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS})


def original_of(app: object, scope: Scope, method: str) -> dict[str, Any]:
    """Returns the values of `scope` that the application and its middlewares may change.

    The root path is already the one that FastAPI sets later.
    """
    return {
        "path": scope["path"],
        "root_path": getattr(app, "root_path", "") or scope.get("root_path", ""),
        "method": method,
        "headers": scope["headers"],
        "query_string": scope.get("query_string", b""),
    }


@record
class Exchanges:
    """State that all exchanges of a process share."""

    recorder: Recorder
    credential_headers: frozenset[str]
    opened: set[Answering]
    """Exchanges that are not finished yet."""
    with_rate_limit_series: set[str]
    """Endpoints whose rate_limit.hits series exists."""
    ai: AiRequests
    sockets: set[Answering]
    """WebSockets that are not finished yet."""
    socket_endpoints: set[str]
    """Endpoints that have accepted a WebSocket; their gauge is 0 while none is open."""

    @classmethod
    def new(cls, recorder: Recorder, credential_headers: frozenset[str]) -> Exchanges:
        """Returns the state before the first request."""
        return cls(recorder, credential_headers, set(), set(), AiRequests(recorder), set(), set())

    def of(self, app: object) -> list[Answering]:
        """Returns the exchanges of `app` that are not finished yet."""
        return [exchange for exchange in list(self.opened) if exchange.app is app]

    def sockets_of(self, app: object) -> list[Answering]:
        """Returns the WebSockets of `app` that are not finished yet."""
        return [connection for connection in list(self.sockets) if connection.app is app]

    def active_sockets(self) -> Mapping[tuple[object, ...], float]:
        """Returns the number of WebSockets that are open now, by endpoint."""
        open_now = [one.route.template for one in list(self.sockets) if one.is_open_socket]
        return _by_endpoint(open_now, self.socket_endpoints)

    def active_streams(self) -> Mapping[tuple[object, ...], float]:
        """Returns the number of AI streams that are open now, by endpoint."""
        open_now: list[str] = []
        for one in (*self.opened, *self.sockets):
            # The route of others is not looked up yet: a middleware may still rewrite the path.
            if count := one.open_streams:
                open_now += [one.route.template] * count
        return _by_endpoint(open_now, self.ai.have_streamed)


def _by_endpoint(open_now: list[str], known: set[str]) -> Mapping[tuple[object, ...], float]:
    """Returns how often each endpoint is in `open_now`; 0 for others that are `known`."""
    return {(endpoint,): open_now.count(endpoint) for endpoint in known.union(open_now)}


class Answering:
    """Base class: looks up the route, passes the server's messages on, records a refusal.

    It has no constructor, since that would be one more call for each request.
    """

    # The constructors of the derived classes set these:
    recorder: Recorder
    app: object
    _shared: Exchanges
    _routes: Routes
    _routed: Scope
    """The scope as the application and its middlewares have changed it."""
    _original: Mapping[str, Any]
    """The values of the scope before these changes: see `original_of`."""
    _receive: Receive
    """The server's callable."""
    # Defaults:
    routed_as: Mapping[str, Any] | None = None
    """The path and root path by which the router was asked, where a middleware may rewrite them."""
    finished = False
    _route: Route | None = None
    _finds_route_in = 0
    """The thread that looks the route up."""
    is_open_socket = False
    """Whether this is a WebSocket that is open now."""
    _status: int | None = None
    _headers: Iterable[tuple[bytes, bytes]] = ()
    _client_left = False
    _is_receiving = False
    """Whether the application waits for the server's next message."""
    _received_ahead: deque[Message] | None = None
    _is_disconnected = False
    """Whether the server has reported the end of the connection; no message follows."""

    @property
    def open_streams(self) -> int:
        """The number of its AI requests whose streams are open now."""
        raise NotImplementedError

    def ended(self, error: BaseException | None) -> None:
        """Called if the application's call or its lifespan ended, perhaps by `error`."""
        raise NotImplementedError

    def absorbs(self, error: BaseException) -> bool | None:
        """Returns whether `error`, which leaves the application, goes no further."""
        return False

    async def receive(self) -> Message:
        """Returns the server's next message, and notes what it is."""
        if self._received_ahead:
            message = self._received_ahead.popleft()
        else:
            self._is_receiving = True
            try:
                message = await self._receive()
            finally:
                self._is_receiving = False
        if message["type"] in DISCONNECTS:
            self._is_disconnected = True
        self._note_received(message)
        return message

    def _note_received(self, message: Message) -> None:
        """Notes a message that the application gets."""
        raise NotImplementedError

    def _note_disconnect(self, message: Message) -> None:
        """Notes that the connection has ended."""
        raise NotImplementedError

    @guarded
    def _look_ahead(self) -> None:
        """Checks whether the client has disconnected, without waiting.

        Messages that are read are kept for the application.
        """
        if self._is_disconnected or not can_look_ahead(self._receive):
            return
        ahead = self._received_ahead = self._received_ahead or deque()
        while not self._client_left and len(ahead) < MAX_AHEAD:
            message = message_now(self._receive)
            if message is None:
                return
            ahead.append(message)
            if message["type"] in DISCONNECTS:
                self._is_disconnected = True
                self._note_disconnect(message)
                return

    @property
    def route(self) -> Route:
        """The matching route, looked up when it is first needed."""
        if self._route is None:
            if self._finds_route_in == get_ident():
                return NO_ROUTE  # the lookup has called a path convertor that asks for the route
            self._finds_route_in = get_ident()
            self._route = self._find_route() or NO_ROUTE
        return self._route

    @guarded  # a path convertor may raise: the request is counted all the same
    def _find_route(self) -> Route:
        original = {**self._original, **self.routed_as} if self.routed_as else self._original
        return self._routes.find(self.app, original, self._routed)

    @guarded
    def _dependant(self) -> Any:
        """Returns the `dependant` of FastAPI's route, with the dependencies of its routers."""
        return find_route(self.app, self._scope).dependant

    @property
    def _scope(self) -> Scope:
        """The scope before routing, as far as it matters here."""
        return {**self._routed, **self._original, **(self.routed_as or {})}

    def _record_rejections(self, endpoint: str, method: str, code: str) -> None:
        """Records a 401, 403 or 429; creates the series of rate limit hits of a new endpoint."""
        record = self.recorder.record
        if self._status in {_UNAUTHORIZED, _FORBIDDEN}:
            reason = auth_failure_reason(
                self._scope, self._headers, self._shared.credential_headers, self._dependant()
            )
            record(AUTH_FAILURES, 1, (endpoint, method, code, reason))
        limited = self._status == _TOO_MANY_REQUESTS
        known = self._shared.with_rate_limit_series
        is_new = endpoint not in known and len(known) < MAX_REMEMBERED
        if is_new:
            known.add(endpoint)
        if limited or is_new:
            record(RATE_LIMIT_HITS, int(limited), (endpoint,))


def unwrapped(error: BaseException) -> BaseException:
    """Returns the exception inside, if a task group wrapped a single one."""
    while isinstance(error, BaseExceptionGroup):
        inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(inside) != 1:
            break
        error = inside[0]
    return error
