"""What is made of LangChain's events: every start makes a `Run`, every end closes it once."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Status, StatusCode

from otel_coach.catalogue import TOOL_CALLS, TOOL_LATENCY
from otel_coach.guards import guarded, swallowed
from otel_coach.instrumentors.langchain.content import ContentCapture, as_json, event_of_call
from otel_coach.instrumentors.langchain.holding import holding_task
from otel_coach.instrumentors.langchain.llm import LlmRun, response_attributes
from otel_coach.instrumentors.langchain.modes import input_mode, mode_of
from otel_coach.instrumentors.langchain.runs import End, OpenRuns, Run, ToolRun
from otel_coach.instrumentors.langchain.usage import billing_of, is_from_cache
from otel_coach.tracing import end_span, time_at
from otel_coach.vocabulary import ABORTED, ERROR, NO_ERROR, OK, span_text

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from opentelemetry._logs import Logger
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from otel_coach.pricing import PriceList
    from otel_coach.recorder import Recorder

    _Task = asyncio.Task[Any] | None

_GRAPH_STEP: Final = "graph:step:"
"""LangGraph tags each run of a node with this and the step's number, and nothing else."""

_PAUSES: Final = frozenset({"GraphBubbleUp"})
"""Exceptions by which LangGraph pauses a run for a human; nothing failed."""


class RunObserver:
    """Is told of every run of the process, sync and async, in any thread, by `managers`.

    Its methods have the names and arguments of langchain-core's. Before those they are given the
    manager of the run, which has its id, its parent's, tags and metadata; at its start also the
    task that holds it. A finaliser may call them in the middle of other code, so they only append
    to the recorder's queue.

    Args:
        recorder: where facts go.
        tracer: makes the spans.
        prices: from tokens to US dollars.
        content: the arguments of `ContentCapture`; nothing is captured by default.
        events: emits what is captured as events.
        ids_tell: whether the id of a run is gone when nothing can report the run any more.
    """

    def __init__(  # noqa: PLR0913 - each is one fact, named at its only call
        self,
        recorder: Recorder,
        tracer: Tracer,
        prices: PriceList,
        content: Mapping[str, Any] | None = None,
        events: Logger | None = None,
        *,
        ids_tell: bool = True,
    ) -> None:
        self.recorder = recorder
        self._tracer = tracer
        self._prices = prices
        self._content = ContentCapture(**(content or {}))
        self._events = events
        self._runs = OpenRuns(recorder, self._abandoned, ids_tell=ids_tell)
        self._open = self._runs.by_key
        self._record_later = self._record  # made once: a method is an object, too

    # Starts

    @guarded
    def holder(self) -> asyncio.Task[Any] | None:
        """The task that holds the run that is about to start."""
        return holding_task()

    @guarded
    def on_chain_start(
        self, made: Any, task: _Task, /, serialized: Any, inputs: Any, *_: Any, **kwargs: Any
    ) -> None:
        """A chain, a graph or a node of one; it reports its cancellation itself."""
        if self._runs.get(made.run_id) is not None:
            return  # LangGraph starts it once more, for tracers, where they get another input
        parent = self._runs.get(made.parent_run_id)
        if parent is not None and parent.span is None and is_graph_step(made.tags):
            self._is_agent(parent)
        name = kwargs.get("name")
        run = Run(parent, name if isinstance(name, str) else "")
        run.input_mode = input_mode(inputs)
        self._begin(made.run_id, run)

    @guarded
    def on_chat_model_start(
        self, made: Any, task: _Task, /, serialized: Any, messages: Any, *_: Any, **kwargs: Any
    ) -> None:
        """One call of a chat model for each of `messages`."""
        self._begin_calls(made, task, serialized, messages, kwargs)

    @guarded
    def on_llm_start(
        self, made: Any, task: _Task, /, serialized: Any, prompts: Any, *_: Any, **kwargs: Any
    ) -> None:
        """One call of a text completion model for each of `prompts`."""
        self._begin_calls(made, task, serialized, prompts, kwargs)

    @guarded
    def on_tool_start(
        self, made: Any, task: _Task, /, serialized: Any, input_str: Any, *_: Any, **kwargs: Any
    ) -> None:
        """A call of a tool."""
        name = str((serialized or {}).get("name") or kwargs.get("name") or "tool")
        run = ToolRun(self._runs.get(made.parent_run_id), name)
        if self._content.on_spans:
            run.arguments = kwargs.get("inputs") or input_str
        run.start_span(self._tracer)
        self._begin(made.run_id, run, task)

    @guarded
    def on_retriever_start(self, made: Any, /, *_: Any, **__: Any) -> None:
        """A retriever: a link between the runs around it and those inside."""
        self._begin(made.run_id, Run(self._runs.get(made.parent_run_id), "retriever"))

    # While an LLM call runs

    def note(self, made: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """A chunk of a streamed call. Every chunk passes here: `guarded`, but without its cost.

        The token is the first argument, the chunk is named, or the last.
        """
        try:
            # By its key, as `OpenRuns.get`, but in this one frame.
            run_id = made.run_id
            run = self._open.get(run_id if isinstance(run_id, str) else run_id.int)
            if type(run) is LlmRun:
                given = args or (kwargs.get("token"),)
                run.token_came(given[0], kwargs.get("chunk") or given[-1])
        except BaseException as raised:
            if not swallowed(self, raised, "RunObserver.note"):
                raise

    @guarded
    def on_stream_event(self, made: Any, /, event: Any, **_: Any) -> None:
        """An event of a call streamed by `astream_events(version="v3")`."""
        run = self._runs.get(made.run_id)
        if isinstance(run, LlmRun):
            run.token_came(event.get("event") == "content-block-delta", None)

    # Ends

    @guarded
    def on_llm_end(self, made: Any, /, response: Any, **_: Any) -> None:
        """An LLM call succeeded, or LangChain's cache made it unnecessary."""
        run = self._runs.get(made.run_id)
        if isinstance(run, LlmRun):
            run.is_from_cache = is_from_cache(response, made.run_id)
        self._end(made.run_id, response=self._kept(response))

    @guarded
    def on_llm_error(self, made: Any, /, error: BaseException, **kwargs: Any) -> None:
        """An LLM call failed, or its consumer closed or cancelled it."""
        self._end(made.run_id, error, self._kept(kwargs.get("response")))

    @guarded
    def on_chain_end(self, made: Any, /, *_: Any, **__: Any) -> None:
        """A chain succeeded."""
        self._end(made.run_id)

    @guarded
    def on_chain_error(self, made: Any, /, error: BaseException, **_: Any) -> None:
        """A chain failed."""
        self._end(made.run_id, error)

    @guarded
    def on_tool_end(self, made: Any, /, output: Any, **_: Any) -> None:
        """A tool succeeded."""
        self._end(made.run_id, response=output if self._content.on_spans else None)

    on_tool_error = on_chain_error
    on_retriever_end = on_chain_end
    on_retriever_error = on_chain_error

    @guarded
    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Count as aborted those open runs that nobody will report any more."""
        self._runs.lose(which)
        self.recorder.settle()

    # What they share

    def _begin(self, run_id: UUID, run: Run, task: _Task = None) -> None:
        if run.parent is None and run.request is not None:
            run.request.outermost_run_started(run)
        self._runs.add(run_id, run, task)
        run.enter()

    def _is_agent(self, run: Run) -> None:
        """A step of it began: the run around is a graph, which is an agent."""
        run.start_span(self._tracer)
        if run.request is not None:
            run.request.ai_work_started(mode=mode_of(run, {}))

    def _begin_calls(
        self,
        made: Sequence[Any],
        task: _Task,
        serialized: Any,
        prompts: Sequence[object],
        facts: Mapping[str, Any],
    ) -> None:
        parameters = facts.get("invocation_params") or {}
        for one, prompt in zip(made, prompts, strict=True):
            run = LlmRun(self._runs.get(one.parent_run_id), serialized, one.metadata, parameters)
            run.mode = mode_of(run, one.metadata)
            if run.request is not None:
                run.request.ai_work_started(model=run.model, mode=run.mode)
            if self._content.is_on:
                run.prompt = (prompt,)
            run.start_span(self._tracer)
            self._begin(one.run_id, run, task)

    def _end(
        self, run_id: UUID, error: BaseException | None = None, response: object = None
    ) -> None:
        run = self._runs.pop(run_id)
        if run is None:
            return
        self._close(run, error, response, _status(error))
        if run.parent is None:
            self.recorder.settle()

    def _kept(self, response: object) -> object:
        """What is needed of it until it is recorded."""
        return response if self._content.is_on else billing_of(response)

    @guarded
    def _abandoned(self, run: Run) -> None:
        self._close(run, None, None, ABORTED)

    def _close(self, run: Run, error: BaseException | None, response: object, status: str) -> None:
        run.ended = True
        if run.parent is None and run.request is not None:
            run.request.outermost_run_ended(run, failed=status == ERROR)
        if run.span is None:
            run.let_go()  # a link between others: nothing of it is recorded
            return
        ended = perf_counter()
        end = End(
            status=status,
            error_type=type(error).__name__ if status == ERROR else NO_ERROR,
            seconds=ended - run.started,
            time_ns=time_at(run.start_of_clock, ended),
            response=response,
        )
        self.recorder.later(self._record_later, run, end)

    def _record(self, run: Run, end: End) -> None:
        """Made by the recorder, at a safe moment."""
        attributes: dict[str, AttributeValue] = {}
        is_recording = run.span is not None and run.span.is_recording()
        try:
            if isinstance(run, ToolRun):
                labels = (run.name, end.status)
                self.recorder.record(TOOL_CALLS, 1, (*labels, end.error_type), run.context)
                self.recorder.record(TOOL_LATENCY, end.seconds, labels, run.context)
                if self._content.on_spans:
                    attributes.update(self._said_to_tool(run, end) or {})
            elif isinstance(run, LlmRun):
                usage = run.usage(end)
                if is_recording or self._content.is_on:
                    attributes.update(response_attributes(end.response, usage))
                if run.is_from_cache:
                    attributes["otel_coach.outcome"] = "cached"
                else:
                    run.record(self.recorder, self._prices, end, usage)
                if self._content.is_on:
                    attributes.update(self._said(run, end, attributes) or {})
            if run.span is not None and is_recording:
                self._end_span(run.span, end, attributes)
        finally:
            run.let_go()

    @guarded  # a redactor of the user's that fails lets nothing out, and stops nothing else
    def _said(
        self, run: LlmRun, end: End, attributes: Mapping[str, AttributeValue]
    ) -> Mapping[str, AttributeValue]:
        """What was said in a call, for its span; its event is emitted here."""
        said = self._content.of_call(run.prompt, end.response)
        if self._events is not None and self._content.on_events:
            _, asked = run.described()
            facts = {**asked, **attributes, **said}
            self._events.emit(event_of_call(facts, end.time_ns, run.context))
        return as_json(said) if self._content.on_spans else {}

    @guarded
    def _said_to_tool(self, run: ToolRun, end: End) -> Mapping[str, AttributeValue]:
        return as_json(self._content.of_tool(run.arguments, end.response))

    def _end_span(self, span: Span, end: End, attributes: dict[str, AttributeValue]) -> None:
        if end.status == ABORTED:
            attributes["otel_coach.outcome"] = ABORTED
        failed = end.status == ERROR
        if failed:
            attributes["error.type"] = span_text(end.error_type)
        status = Status(StatusCode.ERROR) if failed else None
        end_span(span, end.time_ns, None, attributes, status)


def _status(error: BaseException | None) -> str:
    if error is None or any(cls.__name__ in _PAUSES for cls in type(error).__mro__):
        return OK
    # GeneratorExit, CancelledError, KeyboardInterrupt: the consumer wanted no more.
    return ERROR if isinstance(error, Exception) else ABORTED


def is_graph_step(tags: list[str] | None) -> bool:
    """Whether the tags of a run say that it is a graph's node."""
    return any(tag.startswith(_GRAPH_STEP) for tag in tags or ())
