"""The turns of a WebSocket: each is an AI request, from a message of the client to its answer."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace

from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded
from otel_coach.core.library_tasks import feeds_events
from otel_coach.core.request_context import Request, current_request

if TYPE_CHECKING:
    import asyncio

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_coach.metrics.recorder import Recorder


_LINGER: Final = 0.1
"""Seconds after the end of a turn's work in which a last message still belongs to it, where nothing
tells that the next turn begins."""
_SILENCE: Final = 1.0
"""The same for a turn that has sent nothing yet."""
_WORKER_SILENCE: Final = 30.0
"""The same if a task that runs all the time may still answer it."""
MAX_EARLY: Final = 0.05
"""Seconds by which one of these times may be cut short."""


class Socket(Protocol):
    """The WebSocket that turns belong to."""

    recorder: Recorder
    app: object
    span: Span | None
    """Its server span."""
    open_turns: dict[Turn, None]
    """The turns whose work has begun and that are not recorded yet, oldest first."""

    def turn_of_work(self) -> Turn:
        """Returns the turn of work whose context is older than the client's last message."""
        ...

    def is_around(self, span: Span) -> bool:
        """Returns whether `span` is the connection's, or that of an earlier turn of it."""
        ...

    def start_turn_span(self, turn: Turn) -> Span:
        """Starts the span of `turn` below that of the connection."""
        ...

    def look_for_client(self) -> None:
        """Checks whether the client has left."""
        ...

    def work_started(self, turn: Turn) -> None:
        """Notes that AI work of `turn` has begun."""
        ...

    def is_in_hand(self, turn: Turn) -> bool:
        """Returns whether the code that received the message of `turn` still answers it."""
        ...

    def finish_turn_later(self, turn: Turn) -> None:
        """Ends `turn`, whose work has ended, if nothing else will tell its end."""
        ...

    def finish_turn(self, turn: Turn, error: BaseException | None = None) -> None:
        """Records `turn`, once."""
        ...


class Turn(Request):
    """The client's message, and the AI work that it began, if it began any.

    Work finds its turn in the context of the code that received the message. Where that code hands
    messages on, to a task that runs all the time, the context of this task has the connection's
    first turn, which stands for whichever message came last.
    """

    is_in_socket = True

    def __init__(self, connection: Socket, *, is_first: bool = False) -> None:
        super().__init__(connection.app)
        self.connection = connection
        self.look_for_client = connection.look_for_client
        self.is_first = is_first
        """Whether it began with the connection, not with a message."""
        self.started = self.last = perf_counter()
        """When it began, and when a run of it ended or a message was sent last."""
        self.chunks = 0
        """Messages to the client."""
        self.first_chunk: float | None = None
        self.reader: asyncio.Task[Any] | None = None
        """The task that received the message."""
        self.task: asyncio.Task[Any] | None = None
        """The task that sends the answer, as soon as that is known; before, the one in which its
        work began, which may work for that task (`asyncio.gather`, or `asyncio.wait_for` until
        Python 3.12). None in a thread."""
        self.task_answers = False
        """Whether `task` has sent a message."""
        self.was_handed_on = False
        """Whether neither the end of a task nor the next message tells the end of the turn: a task
        that runs all the time got the message, the task of the work feeds a stream of events, or
        the server spoke first."""
        self.has_dropped_stream = False
        """Whether the task of its open run has asked for the next message, and nothing was sent
        since: the stream of that run was dropped."""
        self.open_runs: set[int] = set()
        """The ids of its outermost runs that have not ended."""
        self.span: Span | None = None
        self.context: Context | None = None
        """The context in which `span` is current."""

    @property
    def recorder(self) -> Recorder:
        """Counts otel-coach's own faults."""
        return self.connection.recorder

    def turn_of(self, parent: Request | None, context: Context) -> tuple[Request, Context]:
        """Returns the turn of a run that starts in `context`, and the context around that run."""
        if parent is not None:
            return parent, context
        turn = self._begun() or self
        return turn, turn.context_in(context) or context

    @guarded
    def _begun(self) -> Turn:
        turn = self.connection.turn_of_work() if self.is_first else self
        task = current_task()
        if task is not None and (turn.task is None or turn.task.done()):
            turn.task, turn.task_answers = task, False
            if feeds_events(task):  # other code sends what it makes, also after the task's end
                turn.was_handed_on = True
            turn.watch_task()
        return turn

    def watch_task(self) -> None:
        """Makes the end of its task tell the end of the turn, if it does."""
        task = self.task
        if task is not None and task is not self.reader and not self.was_handed_on:
            task.add_done_callback(self.task_done)

    def note_sender(self) -> None:
        """Notes the task that sends a message of this turn."""
        if self.was_handed_on or self.task_answers or current_request.get() is not self:
            return
        sender = current_task()
        if sender is self.task:
            self.task_answers = True
        elif sender is not None and sender is not self.reader:
            self.task, self.task_answers = sender, True
            self.watch_task()

    @guarded
    def task_done(self, task: object) -> None:
        """Called when the task has ended in which the work of this turn began, or that answers."""
        if task is not self.task or not self.is_done or self.connection.is_in_hand(self):
            return
        if self.task_answers:
            self.connection.finish_turn(self)
        else:
            self.connection.finish_turn_later(self)

    @property
    def linger(self) -> float:
        """The seconds after the end of its work in which another message still belongs to it."""
        if self.chunks:
            return _LINGER
        return _WORKER_SILENCE if self.was_handed_on else _SILENCE

    @property
    def is_left_to_its_task(self) -> bool:
        """Whether the end of its task will tell the end of the turn."""
        return not self.was_handed_on and self.task is not None and not self.task.done()

    @property
    def may_be_over(self) -> bool:
        """Whether nothing more is to come, if nothing was sent for a while.

        One that was handed on, and whose work has just ended, has an answer to send.
        """
        is_silent = self.was_handed_on and not self.chunks
        is_about_to_send = is_silent and perf_counter() - self.last < _SILENCE
        return self.is_done and not self.is_left_to_its_task and not is_about_to_send

    @guarded
    def context_in(self, context: Context) -> Context:
        """Returns `context` with this turn's span in the place of the connection's."""
        connection = self.connection
        if connection.span is None or not connection.is_around(trace.get_current_span(context)):
            return context
        if self.span is None:
            self.span = connection.start_turn_span(self)
            self.context = trace.set_span_in_context(self.span, context)
            if not self.closed:  # it has a span to end, even if no work of it is AI work
                connection.open_turns[self] = None
        return trace.set_span_in_context(self.span, context)

    def ai_work_started(self, *, model: str | None = None, mode: str | None = None) -> None:
        super().ai_work_started(model=model, mode=mode)
        if not self.closed:
            self.connection.open_turns[self] = None
            self.connection.work_started(self)

    def outermost_run_started(self, run: object) -> None:
        super().outermost_run_started(run)
        self.embedding_started(run)

    def embedding_started(self, run: object) -> None:
        super().embedding_started(run)
        self.open_runs.add(id(run))

    def outermost_run_ended(self, run: object, *, failed: bool, was_aborted: bool) -> None:
        super().outermost_run_ended(run, failed=failed, was_aborted=was_aborted)
        self.connection.look_for_client()
        self.open_runs.discard(id(run))
        self.last = perf_counter()
        if self.is_done:
            self.connection.finish_turn_later(self)

    def is_answered_beside(self, task: asyncio.Task[Any] | None) -> bool:
        """Returns whether the turn's task still runs, and is neither `task` nor the reader's."""
        return self.is_left_to_its_task and self.task not in {task, self.reader}

    @property
    def is_done(self) -> bool:
        """Whether all work that it began has ended."""
        has_begun = self.is_ai or self.span is not None
        return has_begun and not self.open_runs and not self.closed
