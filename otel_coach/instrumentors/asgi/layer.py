"""The layer around an application: the server span, the exchange, the page, start and stop."""

from __future__ import annotations

import asyncio
import logging
import weakref
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import anyio
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, set_span_in_context
from opentelemetry.util.http import parse_excluded_urls

from otel_coach.aggregation import NOWHERE
from otel_coach.catalogue import AI_STREAMS_ACTIVE
from otel_coach.guards import OwnThread, guarded, guarded_async
from otel_coach.instrumentors.asgi.exchange import Exchange, Exchanges, runs_asyncio
from otel_coach.instrumentors.asgi.incoming import IncomingContext
from otel_coach.instrumentors.asgi.routes import OwnPage, Routes, templates
from otel_coach.instrumentors.asgi.trials import FASTAPI_TELEMETRY, MARK
from otel_coach.request import current_application, current_request
from otel_coach.tracing import distrusts_caller, is_idle
from otel_coach.vocabulary import ENDPOINT, span_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Tracer

    from otel_coach.recorder import Recorder

    Application = Callable[..., Awaitable[None]]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Scope = MutableMapping[str, Any]
    Send = Callable[[Message], Awaitable[None]]

_logger = logging.getLogger("otel_coach")

_LONGEST_UNWINDING: Final = 0.5
_LONGEST_FLUSH: Final = 3.0


_REQUESTS: Final = frozenset({"http", "websocket"})
_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})


class Layer:
    """Watches the applications of a process; the application inside does not see it.

    Args:
        recorder: where facts go.
        tracer: makes the server spans; None leaves them to whoever makes them already.
        credential_headers: request headers, in lower case, that count as credentials.
        excluded_urls: regular expressions, by comma, of URLs that are not traced.
        watches: says of an application whether it is to be watched; None for all.
        trusts: says of a scope whether its caller's trace context and baggage are taken up; None
            for all.
        page: answers for Prometheus inside the application, or None.
        on_start: called once, before the first request or at the lifespan's start.
        on_stop: called with the application, in a thread, at its lifespan's end: the last
            moment that a server stopped by a signal grants.
    """

    def __init__(  # noqa: PLR0913 - each is one fact, named at its only call
        self,
        *,
        recorder: Recorder,
        tracer: Tracer | None,
        credential_headers: frozenset[str],
        excluded_urls: str = "",
        watches: Callable[[object], bool] | None = None,
        trusts: Callable[[Scope], bool] | None = None,
        page: Any = None,
        on_start: Callable[[], None] | None = None,
        on_stop: Callable[[object], None] | None = None,
    ) -> None:
        self.recorder = recorder
        self._tracer = tracer
        self._watches = watches
        self._trusts = trusts
        self._exchanges = Exchanges.new(recorder, credential_headers)
        self._excluded = parse_excluded_urls(excluded_urls) if excluded_urls else None
        self._page = page
        self._page_paths: tuple[str, ...] = () if page is None else page.suffixes
        self._on_start = on_start
        self._on_stop = on_stop
        self._applications: WeakKeyDictionary[Any, _Application] = WeakKeyDictionary()
        self._latest: _Application | None = None
        self._incoming = IncomingContext()
        recorder.observe(AI_STREAMS_ACTIVE, self._exchanges.active_streams)

    def around(self, original: Application) -> Application:
        """An application class's `__call__`, watched, where it is not already."""

        async def __call__(app: Any, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
            is_ours = MARK not in scope and (self._watches is None or self._watches(app))
            if is_ours and scope["type"] == "lifespan":
                await self._lifespan(app, original, scope, receive, send)
                return
            is_ours = is_ours and scope["type"] == "http"
            watched = self._watch(app, scope, receive, send) if is_ours else None
            if watched is _FOR_PAGE:
                await self._page(scope, receive, send)
                return
            if watched is _FOR_BOTH_PAGES:
                unwatched = {**scope, MARK: True, FASTAPI_TELEMETRY: None}
                await self._page.beside(partial(original, app), unwatched, receive, send)
                return
            if watched is None:
                await original(app, scope, receive, send)
                return
            exchange, entered = watched
            scope[MARK] = True
            scope.setdefault(FASTAPI_TELEMETRY, None)
            error: BaseException | None = None
            try:
                await original(app, scope, exchange.receive, exchange.send)
            except BaseException as raised:
                error = raised
                raise
            finally:
                if not exchange.finished:
                    exchange.ended(error)
                self._leave(entered)

        return __call__ if self._trusts is None else self._distrusting(__call__)

    def _distrusting(self, call: Application) -> Application:
        """`call`, in a context that knows whether the caller is trusted."""

        async def __call__(app: Any, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
            if MARK in scope or scope["type"] not in _REQUESTS:
                await call(app, scope, receive, send)
                return
            before = distrusts_caller.set(not self._is_trusted(scope))
            try:
                await call(app, scope, receive, send)
            finally:
                distrusts_caller.reset(before)

        return __call__

    @guarded  # what fails is not trusted
    def _is_trusted(self, scope: Scope) -> bool:
        return self._trusts is None or self._trusts(scope)

    @guarded
    def _watch(
        self, app: Any, scope: Scope, receive: Receive, send: Send
    ) -> tuple[Exchange, _Entered] | None:
        """The exchange, and what is to be left at its end; or who answers for Prometheus."""
        known = self._latest
        if known is None or known.app() is not app:
            known = self._latest = self._applications.get(app) or self._meet(app)
        path: str = scope["path"]
        if path.endswith(self._page_paths):
            # FastAPI sets a root path of its own later.
            root_path: str = getattr(app, "root_path", "") or scope.get("root_path", "")
            if self._page.answers(scope, root_path):
                if known.page.is_at(app, {**scope, "method": "GET", "root_path": root_path}):
                    return _FOR_BOTH_PAGES
                if not path.endswith("/"):
                    return _FOR_PAGE
        exchange = Exchange(self._exchanges, app, known.routes, scope, receive, send)
        context = None
        if self._tracer is not None:
            context = self._server_context(self._tracer, exchange, known, scope)
        entered = (
            current_request.set(exchange.request),
            None if context is None else otel_context.attach(context),
        )
        self._exchanges.opened.add(exchange)
        return exchange, entered

    @guarded  # without a span, it is measured all the same
    def _server_context(
        self, tracer: Tracer, exchange: Exchange, known: _Application, scope: Scope
    ) -> Context | None:
        """The context of a new server span, None where there is to be none."""
        if known.gives_way is None:
            known.gives_way = _gives_way(exchange.app)
        if known.gives_way:
            return None
        if self._excluded is not None and self._excluded.url_disabled(_url(scope)):
            return None
        links: list[Link] | None = None
        if distrusts_caller.get():
            parent, links = NOWHERE, self._incoming.links_of(scope)
        else:
            parent = self._incoming.of(scope)
        if is_idle(tracer):
            return None if parent is NOWHERE else parent  # it may hold a baggage
        version = scope.get("http_version", "1.1")
        span = tracer.start_span(
            exchange.method,
            context=parent,
            kind=SpanKind.SERVER,
            links=links,
            attributes={
                "http.request.method": exchange.method,
                # A proxy forwards any scheme that a client made up.
                "url.scheme": "https" if scope.get("scheme") == "https" else "http",
                "network.protocol.version": version if version in _VERSIONS else span_text(version),
            },
            start_time=exchange.start_time,
        )
        context = set_span_in_context(span, parent)
        exchange.span, exchange.context = span, context
        return context

    @guarded
    def _leave(self, entered: _Entered) -> None:
        request, context = entered
        if context is not None:
            otel_context.detach(context)
        current_request.reset(request)

    @guarded
    def _start(self, app: object) -> None:
        if app not in self._applications:
            self._meet(app)

    def _meet(self, app: object) -> _Application:
        """The first that is seen of an application: its lifespan, or a request."""
        known = self._applications[app] = _Application(app)
        if self._on_start is not None:
            on_start, self._on_start = self._on_start, None
            on_start()
        self._reserve(app)
        return known

    @guarded
    def _reserve(self, app: object) -> None:
        self.recorder.reserve(ENDPOINT, templates(app))

    async def _lifespan(
        self, app: object, call: Application, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._start(app)

        async def stopping(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self._stop(app)
            await send(message)

        scope[MARK] = True
        # What it starts in the background belongs to it, and ends with it at the latest. Servers
        # run a lifespan in a task of its own: nothing has to be taken back.
        current_application.set(app)
        await call(app, scope, receive, stopping)

    @guarded_async
    async def _stop(self, app: object) -> None:
        # Where the server has cancelled what still runs, it stops at once: whatever is waited for
        # here would let thousands of streams unwind, each with a traceback in the server's log.
        stops_at_once = bool(self._exchanges.of(app)) and _is_being_cancelled()
        if not stops_at_once:
            with anyio.move_on_after(_LONGEST_UNWINDING):
                while self._exchanges.of(app):  # noqa: ASYNC110 - an exchange has no event to wait for
                    await anyio.sleep(0.01)
        for exchange in self._exchanges.of(app):
            exchange.ended(CancelledError())
        if (on_stop := self._on_stop) is None:
            return
        # A daemon: a back end that hangs must not keep the server from stopping.
        flushing = OwnThread(lambda: on_stop(app), "otel-coach-flush", self.recorder.fault)
        flushing.start()
        if stops_at_once:
            flushing.join(_LONGEST_FLUSH)
            return
        with anyio.move_on_after(_LONGEST_FLUSH):
            while flushing.is_alive():  # noqa: ASYNC110 - a thread, on any event loop
                await anyio.sleep(0.01)


def _is_being_cancelled() -> bool:
    """Whether tasks of this event loop have been cancelled and have not ended yet."""
    return runs_asyncio() and any(task.cancelling() for task in asyncio.all_tasks())


class _Application:
    """What is known of an application since it was met."""

    __slots__ = ("app", "gives_way", "page", "routes")

    def __init__(self, app: object) -> None:
        self.app = weakref.ref(app)
        self.routes = Routes()
        self.page = OwnPage()
        self.gives_way: bool | None = None
        """Whether somebody else makes the server spans; looked up at the first request."""


def _gives_way(app: Any) -> bool:
    """Whether the stock instrumentation in `app`'s own stack makes the server span."""
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    if any(map(_is_stock, _stack(app))):
        _logger.warning(
            "otel-coach: the application is instrumented by opentelemetry-instrumentation-fastapi "
            "or -asgi already; otel-coach's server span gives way"
        )
        return True
    if hasattr(app, "_native_telemetry"):
        _logger.info("otel-coach: FastAPI's built-in telemetry gives way to otel-coach")
    return False


_FOR_PAGE: Final[Any] = object()
_FOR_BOTH_PAGES: Final[Any] = object()
"""The request is for the page, which the application has one of its own of, too."""
_Entered = tuple["Token[Any]", "Token[Context] | None"]


def _url(scope: Scope) -> str:
    """The URL that OTEL_PYTHON_FASTAPI_EXCLUDED_URLS is searched in."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    return f"{scope.get('scheme', 'http')}://{host}{scope['path']}"


def _stack(app: Any) -> Iterator[object]:
    """The middlewares of `app`, from outside in."""
    inside = app.middleware_stack
    while inside is not None:
        yield inside
        inside = getattr(inside, "app", None)


def _is_stock(middleware: object) -> bool:
    cls = type(middleware)
    return (cls.__module__, cls.__name__) == (
        "opentelemetry.instrumentation.asgi",
        "OpenTelemetryMiddleware",
    )
