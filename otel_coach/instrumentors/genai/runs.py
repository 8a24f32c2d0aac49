"""Runs of agents, models, tools and retrievers, with their spans; each ends once."""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, cast

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_coach.core.request_context import current_application, current_request
from otel_coach.core.spans import CURRENT_RUN, is_idle, start_of_clock, time_at
from otel_coach.metrics.aggregation import NO_CONTEXT
from otel_coach.metrics.labels import model_text, span_text
from otel_coach.pricing.provider_names import names_of

if TYPE_CHECKING:
    import asyncio
    import weakref
    from collections.abc import Mapping
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from otel_coach.instrumentors.genai.billing import Billing

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Run:
    """One run of a chain, an agent, a model, a tool or a retriever; it ends once."""

    __slots__ = (
        "application",
        "began_late",
        "calls_provider",
        "context",
        "ended",
        "id_ref",
        "input_mode",
        "name",
        "outer_context",
        "parent",
        "request",
        "span",
        "start_of_clock",
        "started",
        "task",
    )

    is_tool = False
    gives_way = False
    """Whether another instrumentation makes the span of this run."""

    def __init__(self, parent: Run | None, name: str, *, calls_provider: bool = False) -> None:
        self.parent = parent
        self.name = name
        self.calls_provider = calls_provider
        request = current_request.get()
        self.outer_context: Context = otel_context.get_current()
        if request is not None and request.is_in_socket:
            around = None if parent is None else parent.request
            request, self.outer_context = request.turn_of(around, self.outer_context)
        self.request = request
        self.application = current_application.get() if request is None else request.application
        self.began_late: bool = (
            parent.began_late if parent is not None else request is not None and request.closed
        )
        """Whether it, and all runs around it, began after the end of the request that started
        their task."""
        self.started = perf_counter()
        if parent is not None:
            self.start_of_clock = parent.start_of_clock
        elif request is not None and not request.closed:
            self.start_of_clock = request.start_of_clock
        else:
            self.start_of_clock = start_of_clock()
        self.span: trace.Span | None = None
        self.context: Context | None = None
        """For code inside the run; None while the run has no span that belongs to a trace."""
        self.input_mode: str | None = None
        self.ended = False
        self.id_ref: weakref.ref[UUID] | None = None
        """Refers to the id object that the run's manager in LangChain holds. Once that is freed,
        nothing can report the end of this run any more."""
        self.task: asyncio.Task[Any] | None = None
        """The run ends no later than this task."""

    kind = trace.SpanKind.INTERNAL
    """Kind of the run's span."""

    @property
    def executes_current_code(self) -> bool:
        """Whether the current code may belong to this run, which is current in its context."""
        return not self.ended

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        """Returns the name of the run's span, and the attributes that are known at the start.

        Of chains, only agents have spans.
        """
        # A run's name may be any text, even about a user; only an identifier may name an agent.
        name = self.name if _NAME.fullmatch(self.name) else "agent"
        operation: dict[str, AttributeValue] = {"gen_ai.operation.name": "invoke_agent"}
        return f"invoke_agent {name}", {**operation, "gen_ai.agent.name": name}

    def start_span(self, tracer: trace.Tracer) -> None:
        """Starts this run's span under the right parent, and sets the context for code inside."""
        if self.gives_way or is_idle(tracer):
            self.span = trace.INVALID_SPAN
            return  # no context is needed: there are no spans
        context_around = parent = self._parent_context()
        span_around = trace.get_current_span(context_around)
        if type(span_around) is RunSpanProxy:  # it may represent another span later
            parent = trace.set_span_in_context(span_around.now, context_around)
            span_around = span_around.still_open
        name, attributes = self.described()
        start_time = time_at(self.start_of_clock, self.started)
        self.span = tracer.start_span(
            name, context=parent, kind=self.kind, attributes=attributes, start_time=start_time
        )
        if not self.is_traced:
            return
        inside = trace.set_span_in_context(RunSpanProxy(self, span_around), context_around)
        self.context = otel_context.set_value(CURRENT_RUN, self, inside)

    @property
    def is_traced(self) -> bool:
        """Whether the run's span belongs to a trace, sampled or not."""
        span = self.span
        # Only a NonRecordingSpan can be outside of a trace. Others are not asked for their context:
        # the sampler would have to decide now, which takes 3 µs of the 50 µs of a call.
        return span is not None and (
            not isinstance(span, trace.NonRecordingSpan) or span.get_span_context().is_valid
        )

    def enter(self) -> None:
        """Makes the span of this run, or of the closest run around it, current in this context.

        It is never detached: LangChain runs an end callback in a context of its own, where a detach
        would have no effect. Instead, `RunSpanProxy` stops representing the span at the run's end.
        """
        closest = _with_span(self)
        if closest is None or closest.context is None:
            if self.calls_provider:  # which must get no trace headers, even if there is no span
                otel_context.attach(otel_context.set_value(CURRENT_RUN, self))
            return
        if self.outer_context.get(CURRENT_RUN) is not closest:
            otel_context.attach(closest.context)

    def _parent_context(self) -> Context:
        nearest = _with_span(self.parent)
        if nearest is not None and not nearest.is_traced:
            return self.outer_context
        current_run: Any = self.outer_context.get(CURRENT_RUN)
        if nearest is None:
            # No parent of this run has a span. An LLM whose stream is still open in this context is
            # a sibling, not the parent, unless a span of the application is current.
            current = trace.get_current_span(self.outer_context)
            is_sibling = (
                type(current) is RunSpanProxy
                and current_run is not None  # None in a thread that was only given the span
                and current_run.calls_provider
                and not current_run.ended
            )
            return cast("Any", current_run).outer_context if is_sibling else self.outer_context
        is_inside_nearest = current_run is nearest or (
            current_run is not None
            and current_run.ended
            and _with_span(current_run.parent) is nearest
        )
        if is_inside_nearest:  # a span of the application may lie between the parent and this run
            return self.outer_context
        # An open parent's proxy: it stops representing the parent's span when the parent ends.
        inside = None if nearest.ended else nearest.context
        span = nearest.span if inside is None else trace.get_current_span(inside)
        return trace.set_span_in_context(span or trace.INVALID_SPAN, self.outer_context)

    def let_go(self) -> None:
        """Drops the contexts after the end: each may keep the previous run, and so on, alive."""
        self.context = None
        self.outer_context = NO_CONTEXT


class ProviderCall(Run):
    """A run that is one call of a provider: `model` of `provider`, for one `operation`."""

    __slots__ = ()

    operation: ClassVar[str]
    """The operation's name, by the GenAI semantic conventions."""
    model: str
    provider: str | None
    """The name of the provider, or of the integration that calls it; None if it is not known."""

    kind = trace.SpanKind.CLIENT

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        """Returns the span's name and attributes by the GenAI semantic conventions."""
        model = model_text(self.model)
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": self.operation,
            "gen_ai.request.model": model,
        }
        if self.provider:
            attributes["gen_ai.provider.name"] = span_text(names_of(self.provider).semconv)
        return f"{self.operation} {model}", attributes


class ToolRun(Run):
    """A run that is one call of a tool."""

    __slots__ = ("arguments", "call_id")
    is_tool = True

    def __init__(self, parent: Run | None, name: str) -> None:
        super().__init__(parent, name)
        self.arguments: object = None
        """Kept only if content is captured."""
        self.call_id: object = None
        """The id that the model has given this call, if it is known."""

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        name = span_text(self.name)
        return f"execute_tool {name}", {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
        }


class RetrieverRun(Run):
    """A run of a retriever, which finds documents for a query."""

    __slots__ = ("query",)

    def __init__(self, parent: Run | None, name: str) -> None:
        super().__init__(parent, name)
        self.query: object = None
        """Kept only if content is captured."""

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        name = span_text(self.name)
        return f"retrieval {name}", {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": name,
        }


def _with_span(run: Run | None) -> Run | None:
    """Returns the closest run, from `run` outward, that has a span."""
    while run is not None and run.span is None:
        run = run.parent
    return run


class RunSpanProxy(trace.Span):
    """Represents the run's span for code in the open run, else the span that was current outside.

    What a span has besides the API's methods (name, attributes, parent ...) is read from the
    represented span, and is missing here if it is missing there.
    """

    def __init__(self, run: Run, outer: trace.Span) -> None:
        self.run = run
        self.outer = outer

    @property
    def now(self) -> trace.Span:
        """The span that is represented at this moment."""
        span = self.still_open
        return span.run.span or trace.INVALID_SPAN if type(span) is RunSpanProxy else span

    @property
    def still_open(self) -> trace.Span:
        """This proxy for code in its run, else the closest outer span that the code is in."""
        span: trace.Span = self
        while type(span) is RunSpanProxy and not span.run.executes_current_code:
            span = span.outer
        return span

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - read-only
        """The represented span's class: other code checks if a span is a `ReadableSpan`."""
        return type(self.now)

    def __getattr__(self, name: str) -> Any:
        if "run" not in vars(self):  # `copy` has not set the attributes yet
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
        """Does nothing: the span ends when its run ends."""


class End(NamedTuple):
    """How and when a run ended."""

    status: str
    error_type: str
    seconds: float
    """Since the start of the run."""
    time_ns: int
    """Nanoseconds since the epoch."""
    was_left: bool = False
    """Whether its consumer stopped it, or read no further: the rest of the answer is missing."""
    was_abandoned: bool = False
    """Whether the client of the request had left before."""
    billing: Billing | None = None
    """What the answer of a model says about its bill."""
    response: object = None
    """The content of the answer of a model, tool or retriever; kept only if content is captured."""
