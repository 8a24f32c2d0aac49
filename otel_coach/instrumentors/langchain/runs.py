"""The runs that are open: LangChain's own ids, parents and ends."""

from __future__ import annotations

import re
import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_coach.aggregation import NOWHERE
from otel_coach.guards import guarded
from otel_coach.request import current_application, current_request
from otel_coach.tracing import CURRENT_RUN, is_idle, start_of_clock, time_at
from otel_coach.vocabulary import span_text

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from otel_coach.recorder import Recorder

_MOST_OPEN_RUNS: Final = 50_000
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Run:
    """One run of a chain, an agent, an LLM or a tool, from its start to its one end."""

    __slots__ = (
        "application",
        "context",
        "ended",
        "input_mode",
        "is_llm",
        "lifeline",
        "name",
        "outer_context",
        "parent",
        "request",
        "span",
        "start_of_clock",
        "started",
        "task",
    )

    def __init__(self, parent: Run | None, name: str, *, is_llm: bool = False) -> None:
        self.parent = parent
        self.name = name
        self.is_llm = is_llm
        request = self.request = current_request.get()
        self.application = current_application.get() if request is None else request.application
        self.started = perf_counter()
        if parent is not None:
            self.start_of_clock = parent.start_of_clock
        elif request is not None and not request.closed:
            self.start_of_clock = request.start_of_clock
        else:
            self.start_of_clock = start_of_clock()
        self.outer_context: Context = otel_context.get_current()
        self.span: trace.Span | None = None
        self.context: Context | None = None
        """For what runs inside; set with the span."""
        self.input_mode: str | None = None
        self.ended = False
        self.lifeline: weakref.ref[UUID] | None = None
        """To the id that whoever can still report it holds."""
        self.task: asyncio.Task[Any] | None = None
        """It ends no later than this."""

    kind = trace.SpanKind.INTERNAL
    """Of its span."""

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        """The name of its span, and the attributes that are known at the start.

        Of all runs that are no model's and no tool's, agents have spans.
        """
        # A run's name may be a sentence about a user; an agent's is an identifier.
        name = self.name if _NAME.fullmatch(self.name) else "agent"
        facts: dict[str, AttributeValue] = {"gen_ai.operation.name": "invoke_agent"}
        return f"invoke_agent {name}", {**facts, "gen_ai.agent.name": name}

    def start_span(self, tracer: trace.Tracer) -> None:
        """Start this run's span under the right parent, and let it hold for what runs inside."""
        if is_idle(tracer):
            self.span = trace.INVALID_SPAN
            return  # there is nothing to hold, nor for what runs inside
        around = parent = self._parent_context()
        span_around = trace.get_current_span(around)
        if type(span_around) is SpanOfRun:  # it may stand for another when it is asked
            parent = trace.set_span_in_context(span_around.now, around)
            span_around = span_around.still_open
        name, attributes = self.described()
        start_time = time_at(self.start_of_clock, self.started)
        self.span = tracer.start_span(
            name, context=parent, kind=self.kind, attributes=attributes, start_time=start_time
        )
        if not self.is_traced:
            return
        inside = trace.set_span_in_context(SpanOfRun(self, span_around), around)
        self.context = otel_context.set_value(CURRENT_RUN, self, inside)

    @property
    def is_traced(self) -> bool:
        """Whether its span belongs to a trace, be that sampled or not."""
        span = self.span
        # Only one that records nothing may be of no trace; others are not asked, which costs.
        return span is not None and (
            not isinstance(span, trace.NonRecordingSpan) or span.get_span_context().is_valid
        )

    def enter(self) -> None:
        """Make the closest span current here.

        Nothing leaves again: LangChain runs an end callback in a context of its own, in which a
        detach has no effect. `SpanOfRun` expires with its run instead.
        """
        closest = _with_span(self)
        if closest is None or closest.context is None:
            if self.is_llm:  # without a span too, a provider is not told whose call it is
                otel_context.attach(otel_context.set_value(CURRENT_RUN, self))
            return
        if self.outer_context.get(CURRENT_RUN) is not closest:
            otel_context.attach(closest.context)

    def _parent_context(self) -> Context:
        nearest = _with_span(self.parent)
        if nearest is not None and not nearest.is_traced:
            return self.outer_context
        here: Any = self.outer_context.get(CURRENT_RUN)
        if nearest is None:
            # Not under another run. A model's stream that is open in the same context, with no
            # span of the application's between, is a sibling.
            current = trace.get_current_span(self.outer_context)
            beside = type(current) is SpanOfRun and here.is_llm and not here.ended
            return here.outer_context if beside else self.outer_context
        belongs = here is nearest or (
            here is not None and here.ended and _with_span(here.parent) is nearest
        )
        if belongs:  # it may hold a span of the application's, between the parent and this one
            return self.outer_context
        # Its `SpanOfRun`, while it is open: what is current here after it must not be its span.
        inside = None if nearest.ended else nearest.context
        span = nearest.span if inside is None else trace.get_current_span(inside)
        return trace.set_span_in_context(span or trace.INVALID_SPAN, self.outer_context)

    def let_go(self) -> None:
        """After its end: hold no context, each of which may hold the run before this one."""
        self.context = None
        self.outer_context = NOWHERE


class ToolRun(Run):
    """A run that is one call of a tool."""

    __slots__ = ("arguments",)

    def __init__(self, parent: Run | None, name: str) -> None:
        super().__init__(parent, name)
        self.arguments: object = None
        """Kept only for who captures content."""

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        name = span_text(self.name)
        return f"execute_tool {name}", {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
        }


def _with_span(run: Run | None) -> Run | None:
    """The closest run from `run` outward that has a span."""
    while run is not None and run.span is None:
        run = run.parent
    return run


class SpanOfRun(trace.Span):
    """The run's span while the run is open, then the span that was current around it.

    Whatever that span has besides the API's methods (name, attributes, parent ...) is read from
    it, and is missing here where it is missing there.
    """

    def __init__(self, run: Run, outer: trace.Span) -> None:
        self.of = run
        self.outer = outer

    @property
    def now(self) -> trace.Span:
        """The span that this one stands for at this moment."""
        span = self.still_open
        return span.of.span or trace.INVALID_SPAN if type(span) is SpanOfRun else span

    @property
    def still_open(self) -> trace.Span:
        """Itself while its run is open, then the first around it of which that is true."""
        span: trace.Span = self
        while type(span) is SpanOfRun and span.of.ended:
            span = span.outer
        return span

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - to be read
        """That of the span: others ask whether the current one is a `ReadableSpan`."""
        run = self.of
        return type(self.now if run.ended else run.span)

    def __getattr__(self, name: str) -> Any:
        if "of" not in vars(self):  # a copy that is being made
            raise AttributeError(name)
        return getattr(self.now, name)

    def get_span_context(self) -> trace.SpanContext:
        return self.now.get_span_context()

    def is_recording(self) -> bool:
        return self.now.is_recording()

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.now.set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.now.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self.now.add_event(name, attributes, timestamp)

    def add_link(self, context: trace.SpanContext, attributes: Any = None) -> None:
        self.now.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self.now.update_name(name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.now.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the API's signature
    ) -> None:
        self.now.record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """Nothing: the run's end ends the span."""


class End(NamedTuple):
    """How and when a run ended."""

    status: str
    error_type: str
    seconds: float
    """From its start."""
    time_ns: int
    """Since the epoch."""
    response: object = None
    """Of an LLM: an LLMResult, or whatever the callback got."""


class OpenRuns:
    """Runs by id, until they end or nothing can end them any more; then `abandoned` is called.

    A cancelled `ainvoke` of a model or a tool fires no callback. Two things tell that a run is
    lost: LangChain's run manager holds the very id object that the start callback was given, and
    whoever could still report the run holds the manager, so it is lost when that object is gone
    (perhaps inside the garbage collector). Where managers hand out another object each time, that
    tells nothing (`ids_tell`). And a run that a coroutine holds from its start to
    its end (not a generator, nor an event stream's pump) is lost when that one's task is done:
    an event stream's tracer keeps the ids of its runs, and may itself be kept by the context in
    which a pooled connection was opened.
    """

    def __init__(
        self, recorder: Recorder, abandoned: Callable[[Run], None], *, ids_tell: bool = True
    ) -> None:
        self.recorder = recorder
        self._abandoned = abandoned
        self._ids_tell = ids_tell
        self.by_key: dict[int | str, Run] = {}
        """As `_key` makes them of ids."""
        self._by_task: WeakKeyDictionary[asyncio.Task[Any], set[int | str]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self.by_key)

    def add(self, run_id: UUID | str, run: Run, task: asyncio.Task[Any] | None = None) -> None:
        """Remember `run`, which ends no later than `task`.

        The oldest one goes when there are too many, and one that has the same id.
        """
        key = _key(run_id)
        if key in self.by_key:
            self._lose(key)
        # A caller may give an id of his own, perhaps as text, which knows no weak reference.
        if self._ids_tell and not isinstance(run_id, str):
            run.lifeline = weakref.ref(run_id, lambda _: self._lose(key))
        self.by_key[key] = run
        if task is not None:
            run.task = task
            self._runs_of(task).add(key)
        if len(self.by_key) > _MOST_OPEN_RUNS:
            self._lose(next(iter(self.by_key)))

    def get(self, run_id: UUID | str | None) -> Run | None:
        """The open run of that id."""
        return None if run_id is None else self.by_key.get(_key(run_id))

    def pop(self, run_id: UUID | str) -> Run | None:
        """Forget the run of that id and return it; None if it ended already."""
        return self._pop(_key(run_id))

    def lose(self, which: Callable[[Run], bool]) -> None:
        """Nothing can end these any more."""
        for key, run in tuple(self.by_key.items()):
            if which(run):
                self._lose(key)

    def _pop(self, key: int | str) -> Run | None:
        run = self.by_key.pop(key, None)
        if run is None:
            return None
        run.lifeline = None
        if run.task is not None:
            if (keys := self._by_task.get(run.task)) is not None:
                keys.discard(key)
            run.task = None
        return run

    @guarded
    def _lose(self, key: int | str) -> None:
        if (run := self._pop(key)) is not None:
            self._abandoned(run)

    def _runs_of(self, task: asyncio.Task[Any]) -> set[int | str]:
        keys = self._by_task.get(task)
        if keys is None:
            keys = self._by_task[task] = set()
            task.add_done_callback(self._task_done)
        return keys

    @guarded
    def _task_done(self, task: asyncio.Task[Any]) -> None:
        for key in tuple(self._by_task.pop(task, ())):
            self._lose(key)


def _key(run_id: UUID | str) -> int | str:
    return run_id if isinstance(run_id, str) else run_id.int
