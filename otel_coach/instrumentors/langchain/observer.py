"""Turns LangChain's events into runs: every start makes a `Run`, every end closes it once."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Status, StatusCode

from otel_coach.core.guard import guarded, swallowed
from otel_coach.core.spans import end_span, time_at
from otel_coach.instrumentors.langchain.content import ContentCapture, as_json, event_of_call
from otel_coach.instrumentors.langchain.llm import LlmRun, response_attributes
from otel_coach.instrumentors.langchain.modes import input_mode, mode_of
from otel_coach.instrumentors.langchain.open_runs import End, OpenRuns, Run, ToolRun
from otel_coach.instrumentors.langchain.owner_task import owner_task
from otel_coach.instrumentors.langchain.usage import billing_of, is_from_cache
from otel_coach.metrics.catalogue import TOOL_CALLS, TOOL_LATENCY
from otel_coach.metrics.labels import ABORTED, ERROR, NO_ERROR, OK, span_text

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from opentelemetry._logs import Logger
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from otel_coach.metrics.recorder import Recorder
    from otel_coach.pricing.price_list import PriceList

    _Task = asyncio.Task[Any] | None

_GRAPH_STEP: Final = "graph:step:"
"""Prefix of the tag, with the step's number, that LangGraph puts on the run of a node only."""

_PAUSES: Final = frozenset({"GraphBubbleUp"})
"""Exceptions by which LangGraph pauses a run for a human; nothing failed."""


class RunObserver:
    """Notified by `manager_patches` of every run of the process, sync or async, in any thread.

    Its methods have the names and arguments of langchain-core's methods. One argument is added in
    front of them: the run's manager (a list of managers where several runs start together), which
    has the run's id, its parent's id, tags and metadata. Start methods get a second one, the task
    that owns the run. A finaliser may call the methods in the middle of other code, so measurements
    are only appended to the recorder's queue.

    Args:
        recorder: records the measurements.
        tracer: makes the spans.
        prices: converts tokens to US dollars.
        content: the arguments of `ContentCapture`; nothing is captured by default.
        events: emits captured content as events.
        ids_tell: whether the id object of a run is freed when nothing can report the run any more.
    """

    def __init__(  # noqa: PLR0913 - named at the only call
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
        self._record_later = self._record  # bound once: each access would create a method object

    # Starts

    @guarded
    def holder(self) -> asyncio.Task[Any] | None:
        """Returns the task that owns the run that is about to start, None if no task does."""
        return owner_task()

    @guarded
    def on_chain_start(
        self, manager: Any, task: _Task, /, serialized: Any, inputs: Any, *_: Any, **kwargs: Any
    ) -> None:
        """Starts the run of a chain, graph or node. LangChain itself reports its cancellation."""
        if self._runs.get(manager.run_id) is not None:
            return  # LangGraph starts a run again for tracers that get another input
        parent = self._runs.get(manager.parent_run_id)
        if parent is not None and parent.span is None and is_graph_step(manager.tags):
            self._start_agent(parent)
        name = kwargs.get("name")
        run = Run(parent, name if isinstance(name, str) else "")
        run.input_mode = input_mode(inputs)
        self._begin(manager.run_id, run)

    @guarded
    def on_chat_model_start(
        self, managers: Any, task: _Task, /, serialized: Any, messages: Any, *_: Any, **kwargs: Any
    ) -> None:
        """Starts one run of a chat model for each element of `messages`."""
        self._begin_calls(managers, task, serialized, messages, kwargs)

    @guarded
    def on_llm_start(
        self, managers: Any, task: _Task, /, serialized: Any, prompts: Any, *_: Any, **kwargs: Any
    ) -> None:
        """Starts one run of a text completion model for each of `prompts`."""
        self._begin_calls(managers, task, serialized, prompts, kwargs)

    @guarded
    def on_tool_start(
        self, manager: Any, task: _Task, /, serialized: Any, input_str: Any, *_: Any, **kwargs: Any
    ) -> None:
        """Starts the run of a tool."""
        name = str((serialized or {}).get("name") or kwargs.get("name") or "tool")
        run = ToolRun(self._runs.get(manager.parent_run_id), name)
        if self._content.on_spans:
            run.arguments = kwargs.get("inputs") or input_str
        run.start_span(self._tracer)
        self._begin(manager.run_id, run, task)

    @guarded
    def on_retriever_start(self, manager: Any, /, *_: Any, **__: Any) -> None:
        """Starts the run of a retriever, which has no span, but links inner runs to its parent."""
        self._begin(manager.run_id, Run(self._runs.get(manager.parent_run_id), "retriever"))

    # While an LLM call runs

    def note(self, manager: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Notes a chunk of a streamed call. Does what `guarded` does, but cheaper: it runs often.

        The token is the first argument; the chunk is the keyword argument, or the last positional.
        """
        try:
            # `OpenRuns.get`, inlined to save a stack frame.
            run_id = manager.run_id
            run = self._open.get(run_id if isinstance(run_id, str) else run_id.int)
            if type(run) is LlmRun:
                values = args or (kwargs.get("token"),)
                run.token_came(values[0], kwargs.get("chunk") or values[-1])
        except BaseException as raised:
            if not swallowed(self, raised, "RunObserver.note"):
                raise

    @guarded
    def on_stream_event(self, manager: Any, /, event: Any, **_: Any) -> None:
        """Notes an event of a call that is streamed by `astream_events(version="v3")`."""
        run = self._runs.get(manager.run_id)
        if isinstance(run, LlmRun):
            run.token_came(event.get("event") == "content-block-delta", None)

    # Ends

    @guarded
    def on_llm_end(self, manager: Any, /, response: Any, **_: Any) -> None:
        """Ends an LLM call that succeeded, or that LangChain's cache answered."""
        run = self._runs.get(manager.run_id)
        if isinstance(run, LlmRun):
            run.is_from_cache = is_from_cache(response, manager.run_id)
        self._end(manager.run_id, response=self._kept(response))

    @guarded
    def on_llm_error(self, manager: Any, /, error: BaseException, **kwargs: Any) -> None:
        """Ends an LLM call that failed, or that its consumer closed or cancelled."""
        self._end(manager.run_id, error, self._kept(kwargs.get("response")))

    @guarded
    def on_chain_end(self, manager: Any, /, *_: Any, **__: Any) -> None:
        """Ends the run of a chain that succeeded."""
        self._end(manager.run_id)

    @guarded
    def on_chain_error(self, manager: Any, /, error: BaseException, **_: Any) -> None:
        """Ends the run of a chain that failed."""
        self._end(manager.run_id, error)

    @guarded
    def on_tool_end(self, manager: Any, /, output: Any, **_: Any) -> None:
        """Ends the run of a tool that succeeded."""
        self._end(manager.run_id, response=output if self._content.on_spans else None)

    on_tool_error = on_chain_error
    on_retriever_end = on_chain_end
    on_retriever_error = on_chain_error

    @guarded
    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open runs for which `which` is true, and counts them as aborted."""
        self._runs.lose(which)
        self.recorder.flush()

    # What they share

    def _begin(self, run_id: UUID, run: Run, task: _Task = None) -> None:
        if run.parent is None and run.request is not None:
            run.request.outermost_run_started(run)
        self._runs.add(run_id, run, task)
        run.enter()

    def _start_agent(self, run: Run) -> None:
        """Starts the span of `run`, a graph whose first step begins. A graph counts as an agent."""
        run.start_span(self._tracer)
        if run.request is not None:
            run.request.ai_work_started(mode=mode_of(run, {}))

    def _begin_calls(
        self,
        managers: Sequence[Any],
        task: _Task,
        serialized: Any,
        prompts: Sequence[object],
        options: Mapping[str, Any],
    ) -> None:
        parameters = options.get("invocation_params") or {}
        for manager, prompt in zip(managers, prompts, strict=True):
            run = LlmRun(
                self._runs.get(manager.parent_run_id), serialized, manager.metadata, parameters
            )
            run.mode = mode_of(run, manager.metadata)
            if run.request is not None:
                run.request.ai_work_started(model=run.model, mode=run.mode)
            if self._content.is_on:
                run.prompt = (prompt,)
            run.start_span(self._tracer)
            self._begin(manager.run_id, run, task)

    def _end(
        self, run_id: UUID, error: BaseException | None = None, response: object = None
    ) -> None:
        run = self._runs.pop(run_id)
        if run is None:
            return
        self._close(run, error, response, _status(error))
        if run.parent is None:
            self.recorder.flush()

    def _kept(self, response: object) -> object:
        """Returns the part of `response` that is needed until the run is recorded."""
        return response if self._content.is_on else billing_of(response)

    @guarded
    def _abandoned(self, run: Run) -> None:
        self._close(run, None, None, ABORTED)

    def _close(self, run: Run, error: BaseException | None, response: object, status: str) -> None:
        run.ended = True
        if run.parent is None and run.request is not None:
            run.request.outermost_run_ended(run, failed=status == ERROR)
        if run.span is None:
            run.let_go()  # it only links other runs: nothing is recorded for it
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
        """Records `run` and ends its span; called by the recorder when it flushes."""
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

    @guarded  # if the user's redactor fails, no content is emitted, but everything else is
    def _said(
        self, run: LlmRun, end: End, attributes: Mapping[str, AttributeValue]
    ) -> Mapping[str, AttributeValue]:
        """Returns the content of a call as attributes for its span; emits its event."""
        content = self._content.of_call(run.prompt, end.response)
        if self._events is not None and self._content.on_events:
            _, request_attributes = run.described()
            event_attributes = {**request_attributes, **attributes, **content}
            self._events.emit(event_of_call(event_attributes, end.time_ns, run.context))
        return as_json(content) if self._content.on_spans else {}

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
    # GeneratorExit, CancelledError, KeyboardInterrupt: the consumer stopped the run.
    return ERROR if isinstance(error, Exception) else ABORTED


def is_graph_step(tags: list[str] | None) -> bool:
    """Returns whether the tags of a run say that it is a node of a graph."""
    return any(tag.startswith(_GRAPH_STEP) for tag in tags or ())
