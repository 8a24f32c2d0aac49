"""One WebSocket: its handshake, its messages, and the turns of AI work in it."""

from __future__ import annotations

import asyncio
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from opentelemetry.trace import SpanKind

from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded, guarded_async
from otel_coach.core.library_tasks import feeds_events
from otel_coach.core.request_context import current_request
from otel_coach.core.spans import time_at
from otel_coach.instrumentors.asgi.ai_requests import MAX_REMEMBERED, Stream
from otel_coach.instrumentors.asgi.answering import REJECTIONS, Answering, original_of, unwrapped
from otel_coach.instrumentors.asgi.look_ahead import DISCONNECTS
from otel_coach.instrumentors.asgi.routes import NO_ROUTE, NotFoundInside
from otel_coach.instrumentors.asgi.server_span import (
    SERVER_ERROR,
    Answered,
    end_server_span,
    end_turn_span,
)
from otel_coach.instrumentors.asgi.turns import MAX_EARLY, Turn
from otel_coach.metrics.labels import ABORTED, CLIENT_CLOSED_REQUEST, ERROR, OK

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from otel_coach.core.asgi_types import Message, Receive, Scope, Send
    from otel_coach.instrumentors.asgi.answering import Exchanges
    from otel_coach.instrumentors.asgi.routes import Routes

_FORBIDDEN: Final = 403
"""The status of a handshake that the application closes instead of accepting it."""
_SWITCHING_PROTOCOLS: Final = 101
_SERVER_RESTARTS: Final = 1012
"""The close code by which a server that stops tells the application that the connection ends."""
_MAX_STEPS: Final = 20
"""Steps of the event loop that the closing of a dropped stream may take."""


class Connection(Answering):
    """Observes the messages between the server and the application; finished exactly once.

    `receive` and `send` replace the server's callables.
    """

    _turn_class = Turn
    span: Span | None = None
    context: Context | None = None
    """The context in which `span` is current."""
    accepted = False
    _was_closed_unaccepted = False
    _disconnect_delivered = False
    """Whether the application got the disconnect, as a message or an OSError: AI work that it then
    begins is not abandoned."""
    method = "GET"  # of every handshake
    _application_left = False
    _first_turn: Turn | None
    """None once the connection has ended: a turn refers to its connection, and the two would remain
    as a reference cycle."""
    _latest: Turn | None = None
    """The turn of the client's last message."""
    _had_abort = False

    def __init__(  # noqa: PLR0913, PLR0917 - the arguments of an ASGI call, and shared state
        self,
        shared: Exchanges,
        app: object,
        routes: Routes,
        scope: Scope,
        receive: Receive,
        send: Send,
        tracer: Tracer | None,
    ) -> None:
        self.recorder = shared.recorder
        self.app = app
        self._shared = shared
        self._routes = routes
        self._routed = scope
        self._original = original_of(app, scope, self.method)
        self._receive = receive
        self._send = send
        self._tracer = tracer
        first = self._first_turn = self._turn_class(self, is_first=True)
        self._thread, self._loop = first.thread, first.loop
        self._start_of_clock = first.start_of_clock
        self.start_time = time_at(first.start_of_clock, first.started)
        """ns since the epoch."""
        self._turn_spans: WeakSet[Span] = WeakSet()
        self.open_turns: dict[Turn, None] = {}
        """The turns whose work has begun and that are not recorded yet, oldest first."""

    def begin(self) -> Token[Any]:
        """Makes the first turn current; returns the token that takes this back."""
        return current_request.set(self._first_turn)

    @property
    def is_open_socket(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the handshake was accepted, and nobody has closed the connection."""
        return self.accepted and not (self._client_left or self._application_left or self.finished)

    @property
    def open_streams(self) -> int:
        return sum(turn.is_ai for turn in list(self.open_turns))

    async def receive(self) -> Message:
        """Returns the server's next message. A message of the client begins a turn."""
        if self.open_turns and self._note_dropped_streams():
            await self._until_dropped_streams_end()
        self._note_receiving()
        return await super().receive()

    @guarded
    def _note_dropped_streams(self) -> bool:
        """Notes the turns whose stream was dropped: its reader now asks for the next message."""
        task, current = current_task(), current_request.get()
        if task is None:
            return False
        for turn in list(self.open_turns):
            is_fed = turn is current and turn.chunks and turn.task and feeds_events(turn.task)
            if turn.open_runs and (turn.task is task or is_fed):
                turn.has_dropped_stream = True
        return any(turn.has_dropped_stream for turn in list(self.open_turns))

    @guarded_async
    async def _until_dropped_streams_end(self) -> None:
        """Lets the event loop close the streams that the turn's code has just dropped, if any."""
        for _ in range(_MAX_STEPS):
            if not any(
                turn.has_dropped_stream and turn.open_runs for turn in list(self.open_turns)
            ):
                return
            await asyncio.sleep(0)

    async def send(self, message: Message) -> None:
        """Passes `message` to the server, and notes what it is."""
        turn = self._note_sending(message)
        try:
            await self._send(message)
        except OSError:
            # From ASGI spec 2.4 on, servers raise it when the client has disconnected.
            self._note_client_left()
            self._disconnect_delivered = True
            if message["type"] == "websocket.accept":
                self.accepted, self._status = False, None
            raise
        if turn is not None:
            self._note_sent(turn)

    @guarded
    def _note_receiving(self) -> None:
        """Ends the turn of the code that asks for the next message, if its work has ended."""
        task, current = current_task(), current_request.get()
        for turn in list(self.open_turns):
            asks = turn is current or (task is not None and turn.task is task)
            if turn.is_done and asks and not turn.is_answered_beside(task):
                self.finish_turn(turn)
            elif turn.is_done and turn.was_handed_on and turn is self._latest:
                self.finish_turn_later(turn)  # a timer that ran while it was in hand did nothing

    @guarded
    def _note_received(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.receive":
            self._latest = turn = self._turn_class(self)
            turn.reader = current_task()
            current_request.set(turn)
        elif kind in DISCONNECTS:
            self._disconnect_delivered = True
            self._note_disconnect(message)

    def _note_disconnect(self, message: Message) -> None:
        if message.get("code") != _SERVER_RESTARTS:
            self._note_client_left()

    @guarded
    def _note_sending(self, message: Message) -> Turn | None:
        """Returns the turn that a message to the client belongs to."""
        kind = message["type"]
        if kind == "websocket.send":
            turn = self._turn_of_message()
            if turn is not None and not turn.chunks:
                self.look_for_client()
            return turn
        if kind == "websocket.accept":
            self.accepted = True
            self._status = _SWITCHING_PROTOCOLS
            if len(self._shared.socket_endpoints) < MAX_REMEMBERED:
                self._shared.socket_endpoints.add(self.route.template)
        elif kind == "websocket.close":
            self._application_left = True
            if not self.accepted and self._status is None:
                self._status = _FORBIDDEN
                self._was_closed_unaccepted = True
        elif kind == "websocket.http.response.start":
            self._status = int(message["status"])  # as in `Exchange`
            self._headers = message["headers"] = list(message.get("headers", ()))
        return None

    @guarded
    def _note_sent(self, turn: Turn) -> None:
        """Counts a message, which the server has taken."""
        turn.last = perf_counter()
        turn.has_dropped_stream = False
        turn.note_sender()
        if not self._client_left:
            turn.chunks += 1
            if turn.first_chunk is None:
                turn.first_chunk = turn.last
        if turn.is_done:
            self.finish_turn_later(turn)

    def _turn_of_message(self) -> Turn | None:
        turn = current_request.get()
        if not isinstance(turn, Turn) or turn.connection is not self:
            turn = self._first_turn
        if turn is not None and turn.is_first:
            turn = self._turn_of_task() or (self._latest or turn, *self.open_turns)[-1]
        return None if turn is None or turn.closed else turn

    def _turn_of_task(self) -> Turn | None:
        task = current_task() or self  # in a thread, no turn has this task
        return next((turn for turn in list(self.open_turns) if turn.task is task), None)

    def turn_of_work(self) -> Turn:
        """Returns the turn of AI work that runs in a context older than the last message.

        If the current task has an open turn, it is that turn; but if its work is done and a newer
        message waits (a worker may take messages from a queue), that turn ends. Else it is the turn
        of the last message, if no AI work has begun for it yet; else one that has sent nothing yet,
        which the task may help to answer; else a new turn, as where a server speaks first.
        """
        newest = self._latest
        if newest is not None and (newest.is_ai or newest.closed):
            newest = None  # it does not wait
        if (own := self._turn_of_task()) is not None:
            if not (own.is_done and newest):
                return own
            self.finish_turn(own)
        silent = [turn for turn in list(self.open_turns) if turn.was_handed_on and not turn.chunks]
        turn = newest or (silent[-1] if silent else self._turn_class(self))
        turn.was_handed_on = True
        return turn

    def is_around(self, span: Span) -> bool:
        """Returns whether `span` is the connection's, or that of an earlier turn of it.

        After a run has ended, its `RunSpanProxy` stays current in the context of the code that
        started the run, and stands for the span around that run.
        """
        span = getattr(span, "now", span)
        return span is self.span or span in self._turn_spans

    def start_turn_span(self, turn: Turn) -> Span:
        """Starts the span of `turn` below that of the connection."""
        assert self._tracer is not None  # noqa: S101 # nosec B101 - the connection has a span
        has_route = self.route is not NO_ROUTE
        span = self._tracer.start_span(
            f"websocket turn {self.route.template}" if has_route else "websocket turn",
            context=self.context,
            kind=SpanKind.INTERNAL,
            attributes={"http.route": self.route.template} if has_route else None,
            start_time=time_at(turn.start_of_clock, turn.started),
        )
        self._turn_spans.add(span)
        return span

    def is_in_hand(self, turn: Turn) -> bool:
        """Returns whether the code that received the message of `turn` still answers it."""
        asked_for_next = self._is_receiving or self._disconnect_delivered
        return turn is self._latest and turn.reader is not None and not asked_for_next

    @guarded
    def finish_turn_later(self, turn: Turn) -> None:
        """Ends `turn`, whose work has ended, if nothing else will tell its end."""
        if turn.is_left_to_its_task or (not turn.was_handed_on and current_task() is turn.reader):
            return  # the end of its task, or the next `receive`, tells
        if self._loop is None:
            self.finish_turn(turn)
        elif get_ident() == self._thread:
            self._loop.call_later(turn.linger, self._finish_if_quiet, turn)
        else:
            self._loop.call_soon_threadsafe(
                self._loop.call_later, turn.linger, self._finish_if_quiet, turn
            )

    @guarded
    def _finish_if_quiet(self, turn: Turn) -> None:
        # This may run a little early by `perf_counter`, and only a further message that is sent
        # would call it again.
        is_quiet = perf_counter() - turn.last >= turn.linger - MAX_EARLY
        if is_quiet and turn.may_be_over and not self.is_in_hand(turn):
            self.finish_turn(turn)

    @guarded
    def work_started(self, turn: Turn) -> None:
        """Notes that AI work of `turn` has begun, perhaps after its client has left."""
        if self._client_left and not self._disconnect_delivered:
            turn.abandoned_endpoint = self.route.template

    def look_for_client(self) -> None:
        """Checks whether the client has left, without waiting; messages are kept for later."""
        if get_ident() == self._thread and not self._is_receiving and not self.finished:
            self._look_ahead()

    @guarded
    def _note_client_left(self) -> None:
        if self._client_left or self._application_left:
            return
        self._client_left = True
        for turn in list(self.open_turns):
            if turn.has_dropped_stream or (turn.may_be_over and not self.is_in_hand(turn)):
                self.finish_turn(turn)
            elif turn.open_runs or not turn.chunks:
                turn.abandoned_endpoint = self.route.template

    @guarded
    def ended(self, error: BaseException | None) -> None:
        """Called when the application's call, or its lifespan, has ended, perhaps by `error`."""
        if self.finished:
            return
        self.look_for_client()
        self.finished = True
        if self._client_left:
            error = None  # by an exception, the application learns that its client has left
        for turn in list(self.open_turns):
            self.finish_turn(turn, error)
        if self._first_turn is not None:
            self._first_turn.closed = True
        self._first_turn = self._latest = None
        self._shared.sockets.discard(self)
        was_left = self._status is None and self._client_left  # during the handshake
        if self._status is None:
            self._status = CLIENT_CLOSED_REQUEST if was_left else SERVER_ERROR
        endpoint = self.route.template
        may_be_new = endpoint not in self._shared.with_rate_limit_series
        if (self._status in REJECTIONS or may_be_new) and not self._was_not_found():
            self._record_rejections(endpoint, self.method, str(self._status))
        if self.span is not None:
            answered = Answered(
                time_at(self._start_of_clock, perf_counter()),
                self.method,
                self.route,
                None if was_left else self._status,
                ABORTED if self._had_abort or was_left else OK,
                None if error is None else type(unwrapped(error)).__qualname__,
            )
            self.recorder.later(end_server_span, self.span, answered)
        self.recorder.flush()

    def _was_not_found(self) -> bool:
        """Returns whether a router closed the connection, because it has no route for the path.

        The client gets a 403 for it, as for a refusal. A refusal by a middleware reaches no router.
        """
        has_route = self.route is not NO_ROUTE and not isinstance(self.route, NotFoundInside)
        return self._was_closed_unaccepted and not has_route and self.routed_as != {}

    @guarded
    def finish_turn(self, turn: Turn, error: BaseException | None = None) -> None:
        """Records `turn`, once; `error` left the application in it."""
        self.open_turns.pop(turn, None)
        if turn.closed:
            return
        turn.closed = True
        turn.look_for_client = None  # a call that ends later is no part of an answer
        outcome = OK
        if turn.abandoned_endpoint is not None:
            outcome, self._had_abort = ABORTED, True
        elif error is not None or turn.run_failed:
            outcome = ERROR
        first = None if turn.first_chunk is None else turn.first_chunk - turn.started
        is_running = turn.open_runs and not turn.has_dropped_stream
        seconds = (perf_counter() if is_running else turn.last) - turn.started
        if turn.is_ai:
            stream = Stream(turn.chunks, first)
            endpoint = self.route.template
            self._shared.ai.record(turn, endpoint, outcome, seconds, stream, turn.context)
        if turn.span is not None:
            answered = Answered(
                time_at(turn.start_of_clock, turn.started + seconds),
                self.method,
                self.route,
                None,
                outcome,
                None if error is None else type(unwrapped(error)).__qualname__,
            )
            self.recorder.later(end_turn_span, turn.span, answered)
        turn.context = None  # it refers to the run before, that run to its turn, and so on
        self.recorder.flush()
