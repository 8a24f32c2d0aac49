"""The ASGI middleware: exchange, metrics page, start and stop of the application."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

import anyio
from opentelemetry import context as otel_context

from otel_coach.core.event_loop import runs_asyncio
from otel_coach.core.guard import OwnThread, guarded, guarded_async
from otel_coach.core.request_context import current_application, current_request
from otel_coach.core.spans import distrusts_caller
from otel_coach.core.stop_rule import stopping_patches
from otel_coach.instrumentors.asgi.answering import Exchanges
from otel_coach.instrumentors.asgi.applications import KnownApplication
from otel_coach.instrumentors.asgi.exchange import Exchange
from otel_coach.instrumentors.asgi.router_entry import may_rewrite, put_in_front, take_away
from otel_coach.instrumentors.asgi.routes import templates
from otel_coach.instrumentors.asgi.server_span_start import ServerSpans
from otel_coach.instrumentors.asgi.trials import FASTAPI_TELEMETRY, MARK
from otel_coach.metrics.catalogue import AI_STREAMS_ACTIVE, WEBSOCKETS_ACTIVE
from otel_coach.metrics.labels import ENDPOINT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

    from otel_coach.core.announcement import AnnounceOnce
    from otel_coach.core.asgi_types import Message, Receive, Scope, Send
    from otel_coach.core.stop_rule import StopRule
    from otel_coach.instrumentors.asgi.websocket import Connection
    from otel_coach.metrics.recorder import Recorder

    Application = Callable[..., Awaitable[None]]
    Answer = Callable[[Scope, Receive, Send], Awaitable[None]]
    Tokens = tuple[Token[Any], Token[Context] | None]
    """What is reset at the end of a request."""

    class Page(Protocol):
        """The metrics page inside the application."""

        @property
        def suffixes(self) -> tuple[str, ...]:
            """Every path at which the page is requested ends with one of these."""
            ...

        def answers(self, scope: Scope, root_path: str) -> bool:
            """Whether the request is for this page; `root_path` is that of the application."""
            ...

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Sends the page."""

        async def beside(self, ask: Answer, scope: Scope, receive: Receive, send: Send) -> None:
            """Sends the page combined with the application's own one."""


_MAX_UNWINDING: Final = 0.5
"""Seconds for which the end of the lifespan waits for open requests."""
_MAX_FLUSH: Final = 3.0
"""Seconds that the server waits for `on_stop`."""
_REQUESTS: Final = frozenset({"http", "websocket"})


class Middleware:
    """Watches the applications of a process from outside; they do not notice it.

    Args:
        recorder: records the measurements.
        tracer: makes the server spans; None if another instrumentation makes them.
        credential_headers: request headers, in lower case, that count as credentials.
        excluded_urls: comma-separated regular expressions of URLs that are not traced.
        watches: returns whether an application is watched; None watches all.
        trusts: returns whether a scope's caller is trusted, so that its trace context and baggage
            are extracted; None trusts all.
        page: serves the metrics page inside the application; None if it is not served there.
        on_start: called once, at the start of the lifespan or before the first request.
        on_stop: called with the application, in a thread, at the end of its lifespan: a server
            that was stopped by a signal lets no code run later.
        stops: returns how the work of an endpoint is stopped if its client leaves, or None if it is
            not stopped. Without this function, only the application can ask for stopping.
        on_routes: called with the templates of all routes that are known, when an application has
            started.
        announce: logs a line about a topic, once in a service.
    """

    def __init__(  # noqa: PLR0913 - keyword only
        self,
        *,
        recorder: Recorder,
        tracer: Tracer | None,
        credential_headers: frozenset[str],
        excluded_urls: str = "",
        watches: Callable[[object], bool] | None = None,
        trusts: Callable[[Scope], bool] | None = None,
        page: Page | None = None,
        on_start: Callable[[], None] | None = None,
        on_stop: Callable[[object], None] | None = None,
        stops: Callable[[str], StopRule | None] | None = None,
        on_routes: Callable[[Sequence[str]], None] | None = None,
        announce: AnnounceOnce | None = None,
    ) -> None:
        self.recorder = recorder
        self._spans: ServerSpans | None = None
        if tracer is not None:
            self._spans = ServerSpans(recorder, tracer, excluded_urls, announce)
        self._watches = watches
        self._trusts = trusts
        self._exchanges = Exchanges.new(recorder, credential_headers)
        self._page = page
        self._page_paths: tuple[str, ...] = () if page is None else page.suffixes
        self._on_start = on_start
        self._on_stop = on_stop
        self._applications: WeakKeyDictionary[Any, KnownApplication] = WeakKeyDictionary()
        self._latest: KnownApplication | None = None
        self._stops = stops
        self._on_routes = on_routes
        self._new_exchange: Callable[..., Exchange] = Exchange
        self._new_connection: Callable[..., Connection] = _connection
        recorder.observe(AI_STREAMS_ACTIVE, self._exchanges.active_streams)
        recorder.observe(WEBSOCKETS_ACTIVE, self._exchanges.active_sockets)

    def add_stopping(self) -> Callable[[], None]:
        """Watches requests so that their work can be stopped, once somebody asks for it.

        Returns the undo function.
        """
        return stopping_patches.add(self._make_stoppable, now=self._stops is not None)

    def _make_stoppable(self) -> Iterator[Callable[[], None]]:
        from otel_coach.instrumentors.asgi import awaiting, stopping_exchange  # noqa: PLC0415 - only where asked for

        yield awaiting.note_answering_tasks(self.recorder).undo
        rule_of = self._stops or _no_rule
        self._new_exchange = partial(stopping_exchange.exchange_of, rule_of)
        self._new_connection = partial(_stopping_connection, rule_of)

    def around(self, original: Application) -> Application:
        """Wraps `original`, an application class's `__call__`, to watch each request once."""

        async def __call__(app: Any, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
            is_watched = MARK not in scope and (self._watches is None or self._watches(app))
            kind = scope["type"] if is_watched else None
            if kind == "lifespan":
                await self._lifespan(app, original, scope, receive, send)
                return
            if kind == "http" and scope["path"].endswith(self._page_paths):
                answer = self._page_answer(app, original, scope)
                if answer is not None:
                    await answer({**scope, MARK: True, FASTAPI_TELEMETRY: None}, receive, send)
                    return
            watched = None
            if kind in _REQUESTS:
                watch = self._watch if kind == "http" else self._watch_socket
                watched = watch(app, scope, receive, send)
            if watched is None:
                await original(app, scope, receive, send)
                return
            exchange, tokens = watched
            scope.setdefault(MARK, True)
            scope.setdefault(FASTAPI_TELEMETRY, None)
            error: BaseException | None = None
            try:
                await original(app, scope, exchange.receive, exchange.send)
            except BaseException as raised:
                error = raised
                if not exchange.absorbs(raised):
                    raise
            finally:
                if not exchange.finished:
                    exchange.ended(error)
                self._reset(tokens, error)
                error = None  # its traceback refers to this frame: this avoids a reference cycle

        return __call__ if self._trusts is None else self._setting_trust(__call__)

    def _setting_trust(self, call: Application) -> Application:
        """Wraps `call` to set in the context whether the caller is trusted."""

        async def __call__(app: Any, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
            if MARK in scope or scope["type"] not in _REQUESTS:
                await call(app, scope, receive, send)
                return
            before = distrusts_caller.set(not self._is_trusted(scope))
            try:
                await call(app, scope, receive, send)
            except GeneratorExit:
                raise  # the garbage collector closes the coroutine, maybe in another context
            except BaseException:
                distrusts_caller.reset(before)
                raise
            distrusts_caller.reset(before)

        return __call__

    @guarded  # returns None after an error: the caller is not trusted
    def _is_trusted(self, scope: Scope) -> bool:
        return self._trusts is None or self._trusts(scope)

    @guarded  # after a fault, the application answers
    def _page_answer(self, app: Any, original: Application, scope: Scope) -> Answer | None:
        """Returns what answers a request for the metrics page; None if it is for another page."""
        known = self._applications.get(app) or self._register(app)
        # FastAPI sets its own root path later.
        root_path: str = getattr(app, "root_path", "") or scope.get("root_path", "")
        page = self._page
        if page is None or not page.answers(scope, root_path):
            return None
        if known.page.is_at(app, {**scope, "method": "GET", "root_path": root_path}):
            return partial(page.beside, partial(original, app))
        return page

    @guarded
    def _watch(
        self, app: Any, scope: Scope, receive: Receive, send: Send
    ) -> tuple[Exchange, Tokens]:
        """Returns the exchange, and the tokens to reset at its end."""
        known = self._latest
        if known is None or known.app() is not app:
            known = self._latest = self._applications.get(app) or self._register(app)
        exchange = self._new_exchange(self._exchanges, app, known.routes, scope, receive, send)
        if known.may_rewrite:
            exchange.routed_as = scope[MARK] = {}
        context = None if self._spans is None else self._spans.start(exchange, known, scope)
        tokens = (
            current_request.set(exchange.request),
            None if context is None else otel_context.attach(context),
        )
        self._exchanges.opened.add(exchange)
        return exchange, tokens

    @guarded
    def _watch_socket(
        self, app: Any, scope: Scope, receive: Receive, send: Send
    ) -> tuple[Connection, Tokens]:
        known, spans = self._applications.get(app) or self._register(app), self._spans
        tracer = None if spans is None else spans.tracer
        connection = self._new_connection(
            self._exchanges, app, known.routes, scope, receive, send, tracer
        )
        if known.may_rewrite:
            connection.routed_as = scope[MARK] = {}
        context = None if spans is None else spans.start(connection, known, scope)
        tokens = (
            connection.begin(),
            None if context is None else otel_context.attach(context),
        )
        self._exchanges.sockets.add(connection)
        return connection, tokens

    @guarded
    def _reset(self, tokens: Tokens, error: BaseException | None) -> None:
        if isinstance(error, GeneratorExit):
            return  # the garbage collector closes the coroutine, maybe in another context
        request, context = tokens
        if context is not None:
            otel_context.detach(context)
        current_request.reset(request)

    @guarded
    def _start(self, app: object) -> None:
        if app not in self._applications:
            self._register(app, is_starting=True)

    def _register(self, app: object, *, is_starting: bool = False) -> KnownApplication:
        """Registers an application at its first event: the start of its lifespan, or a request."""
        known = self._applications[app] = KnownApplication(app)
        if self._on_start is not None:
            on_start, self._on_start = self._on_start, None
            on_start()
        if not is_starting:  # its lifespan may add routes
            self._reserve(app)
        self._note_rewriting(known, app)
        return known

    @guarded
    def _note_rewriting(self, known: KnownApplication, app: object) -> None:
        put_in_front(app, self.recorder)
        known.may_rewrite = may_rewrite(app)

    def restore_routers(self) -> None:
        """Leaves the routers of all applications as they were."""
        for app in list(self._applications):
            take_away(app)

    @guarded
    def _reserve(self, app: object) -> None:
        self.recorder.reserve(ENDPOINT, templates(app))
        if self._on_routes is not None:
            self._on_routes([path for one in list(self._applications) for path in templates(one)])

    async def _lifespan(
        self, app: object, call: Application, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._start(app)

        async def send_noted(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._reserve(app)
            elif message["type"].startswith("lifespan.shutdown."):
                await self._stop(app)
            await send(message)

        scope[MARK] = True
        # Background work that the lifespan starts belongs to the application, and ends with it at
        # the latest. Servers run a lifespan in a task of its own: the variable needs no reset.
        current_application.set(app)
        await call(app, scope, receive, send_noted)

    @guarded_async
    async def _stop(self, app: object) -> None:
        # If the server has cancelled the requests that still run, nothing is awaited here: that
        # would let thousands of streams unwind, each with a traceback in the server's log.
        is_cancelled = bool(self._exchanges.of(app)) and _is_being_cancelled()
        if not is_cancelled:
            with anyio.move_on_after(_MAX_UNWINDING):
                while self._exchanges.of(app):  # noqa: ASYNC110 - an exchange has no event to wait for
                    await anyio.sleep(0.01)
        for exchange in (*self._exchanges.of(app), *self._exchanges.sockets_of(app)):
            exchange.ended(CancelledError())
        if (on_stop := self._on_stop) is None:
            return
        # A daemon thread: a back end that hangs must not keep the server from stopping.
        flushing = OwnThread(lambda: on_stop(app), "otel-coach-flush", self.recorder.fault)
        flushing.start()
        if is_cancelled:
            flushing.join(_MAX_FLUSH)
            return
        with anyio.move_on_after(_MAX_FLUSH):
            while flushing.is_alive():  # noqa: ASYNC110 - a thread, on any event loop
                await anyio.sleep(0.01)


def _is_being_cancelled() -> bool:
    """Returns whether tasks of this event loop have been cancelled and have not ended yet."""
    return runs_asyncio() and any(task.cancelling() for task in asyncio.all_tasks())


def _connection(*arguments: Any) -> Connection:
    from otel_coach.instrumentors.asgi.websocket import Connection  # noqa: PLC0415 - few have any

    return Connection(*arguments)


def _stopping_connection(rule_of: Callable[[str], StopRule | None], *arguments: Any) -> Connection:
    from otel_coach.instrumentors.asgi.stopping_socket import connection_of  # noqa: PLC0415 - few have any

    return connection_of(rule_of, *arguments)


def _no_rule(_endpoint: str) -> None:
    """The rule of a process in which only `stop_abandoned` asks for stopping."""
