"""LangChain's callbacks: every start makes a `Run`, every end closes it once."""

from __future__ import annotations

import functools
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry.trace import Status, StatusCode

from otel_coach.catalogue import TOOL_CALLS, TOOL_LATENCY
from otel_coach.guards import THE_HOSTS, guarded
from otel_coach.instrumentors.langchain.content import ContentCapture, as_json, event_of_call
from otel_coach.instrumentors.langchain.llm import LlmRun, response_attributes
from otel_coach.instrumentors.langchain.modes import input_mode, mode_of
from otel_coach.instrumentors.langchain.runs import End, OpenRuns, Run, ToolRun
from otel_coach.instrumentors.langchain.starts import current_start
from otel_coach.instrumentors.langchain.usage import is_from_cache
from otel_coach.tracing import end_span
from otel_coach.vocabulary import ABORTED, ERROR, NO_ERROR, OK, span_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from opentelemetry._logs import Logger
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from otel_coach.pricing import PriceList
    from otel_coach.recorder import Recorder

_GRAPH_STEP: Final = "graph:step:"
"""LangGraph tags each run of a node with this and the step's number, and nothing else."""

_PAUSES: Final = frozenset({"GraphBubbleUp"})
"""Exceptions by which LangGraph pauses a run for a human; nothing failed."""


class CoachCallbackHandler(BaseCallbackHandler):
    """Sees every run of the process, sync and async, in any thread.

    It may be called by a finaliser in the middle of other code, so it only appends to the
    recorder's queue.

    Args:
        recorder: where facts go.
        tracer: makes the spans.
        prices: from tokens to US dollars.
        content: the arguments of `ContentCapture`; nothing is captured by default.
        events: emits what is captured as events.
    """

    def __init__(
        self,
        recorder: Recorder,
        tracer: Tracer,
        prices: PriceList,
        content: Mapping[str, Any] | None = None,
        events: Logger | None = None,
    ) -> None:
        self.recorder = recorder
        self._tracer = tracer
        self._prices = prices
        self._content = ContentCapture(**(content or {}))
        self._events = events
        self._runs = OpenRuns(recorder, self._abandoned)
        self._open = self._runs.by_key

    @property
    def run_inline(self) -> bool:  # type: ignore[override] - LangChain only reads it
        """A handler that is not inline costs a thread switch per chunk."""
        return not current_start.get().steps_aside

    # Starts

    @guarded
    def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """A chain, a graph or a node of one."""
        parent = self._runs.get(parent_run_id)
        if parent is not None and parent.span is None and _is_graph_step(tags):
            self._is_agent(parent)
        name = kwargs.get("name")
        run = Run(parent, name if isinstance(name, str) else "")
        run.input_mode = input_mode(inputs)
        self._begin(run_id, run)

    @guarded
    def on_chat_model_start(
        self,
        serialized: Any,
        messages: Sequence[Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A call of a chat model."""
        run = self._llm_start(serialized, run_id, parent_run_id, metadata, kwargs)
        self._keep_prompt(run, messages)

    @guarded
    def on_llm_start(
        self,
        serialized: Any,
        prompts: Sequence[Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A call of a text completion model."""
        run = self._llm_start(serialized, run_id, parent_run_id, metadata, kwargs)
        self._keep_prompt(run, prompts)

    @guarded
    def on_tool_start(
        self,
        serialized: Any,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """A call of a tool."""
        name = str((serialized or {}).get("name") or kwargs.get("name") or "tool")
        run = ToolRun(self._runs.get(parent_run_id), name)
        if self._content.on_spans:
            run.arguments = kwargs.get("inputs") or input_str
        run.start_span(self._tracer)
        self._begin(run_id, run)

    @guarded
    def on_retriever_start(
        self,
        serialized: Any,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """A retriever: a link between the runs around it and those inside."""
        self._begin(run_id, Run(self._runs.get(parent_run_id), "retriever"))

    # While an LLM call runs

    def note(self, manager: Any, token: Any, chunk: Any) -> Any:
        """Note a chunk of the run of `manager`; through whom the others are to be told of it.

        None where there is nobody else. Every chunk passes here: `guarded`, but without its cost.
        """
        try:
            run_id = manager.run_id  # by its key, as `OpenRuns.get`, but in this one frame
            run = self._open.get(run_id if isinstance(run_id, str) else run_id.int)
            if type(run) is not LlmRun:
                return manager
            run.token_came(token, chunk)
            if run.handlers != len(manager.handlers):
                run.part_from(self, manager)
        except THE_HOSTS:
            raise
        except BaseException as fault:  # noqa: BLE001 - as `guarded`
            self.recorder.fault(fault, "CoachCallbackHandler.note")
            return manager
        return run.others

    @guarded
    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **_: Any) -> None:
        """A chunk of a streamed call."""
        run = self._runs.get(run_id)
        if isinstance(run, LlmRun):
            run.token_came(token, chunk)

    @guarded
    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """An event of a call streamed by `astream_events(version="v3")`."""
        run = self._runs.get(run_id)
        if isinstance(run, LlmRun):
            run.token_came(event.get("event") == "content-block-delta", None)

    # Ends

    @guarded
    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        """An LLM call succeeded, or LangChain's cache made it unnecessary."""
        run = self._runs.get(run_id)
        if isinstance(run, LlmRun):
            run.is_from_cache = is_from_cache(response, run_id)
        self._end(run_id, response=response)

    @guarded
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """An LLM call failed, or its consumer closed or cancelled it."""
        self._end(run_id, error, kwargs.get("response"))

    @guarded
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """A chain succeeded."""
        self._end(run_id)

    @guarded
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A chain failed."""
        self._end(run_id, error)

    @guarded
    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """A tool succeeded."""
        self._end(run_id, response=output)

    @guarded
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A tool failed."""
        self._end(run_id, error)

    @guarded
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:
        """A retriever succeeded."""
        self._end(run_id)

    @guarded
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A retriever failed."""
        self._end(run_id, error)

    @guarded
    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Count as aborted those open runs that nobody will report any more."""
        self._runs.lose(which)
        self.recorder.settle()

    # What they share

    def _begin(self, run_id: UUID, run: Run) -> None:
        if run.parent is None and run.request is not None:
            run.request.outermost_run_started(run)
        self._runs.add(run_id, run)
        run.enter()

    def _is_agent(self, run: Run) -> None:
        """A step of it began: the run around is a graph, which is an agent."""
        run.start_span(self._tracer)
        if run.request is not None:
            run.request.ai_work_started(mode=mode_of(run, {}))

    def _llm_start(
        self,
        serialized: Any,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: dict[str, Any] | None,
        kwargs: dict[str, Any],
    ) -> LlmRun:
        metadata = metadata or {}
        parameters = kwargs.get("invocation_params") or {}
        run = LlmRun(self._runs.get(parent_run_id), serialized, metadata, parameters)
        run.mode = mode_of(run, metadata)
        if run.request is not None:
            run.request.ai_work_started(model=run.model, mode=run.mode)
        run.start_span(self._tracer)
        self._begin(run_id, run)
        return run

    def _keep_prompt(self, run: LlmRun, prompt: Sequence[object]) -> None:
        if self._content.is_on:
            run.prompt = prompt

    def _end(
        self, run_id: UUID, error: BaseException | None = None, response: object = None
    ) -> None:
        run = self._runs.pop(run_id)
        if run is None:
            return
        self._close(run, error, response, _status(error))
        if run.parent is None:
            self.recorder.settle()

    @guarded
    def _abandoned(self, run: Run) -> None:
        self._close(run, None, None, ABORTED)

    def _close(self, run: Run, error: BaseException | None, response: object, status: str) -> None:
        run.ended = True
        if status == ERROR and run.parent is None and run.request is not None:
            run.request.outermost_run_failed(run)
        if run.span is None:
            run.let_go()  # a link between others: nothing of it is recorded
            return
        end = End(
            status=status,
            error_type=type(error).__name__ if status == ERROR else NO_ERROR,
            seconds=perf_counter() - run.started,
            time_ns=time_ns(),
            response=response,
        )
        self.recorder.later(functools.partial(self._record, run, end))

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


def _is_graph_step(tags: list[str] | None) -> bool:
    return any(tag.startswith(_GRAPH_STEP) for tag in tags or ())
