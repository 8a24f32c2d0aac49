"""Turns LangChain's events into runs: every start makes a `Run`, every end closes it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Unpack

from opentelemetry import context as otel_context

from otel_coach.core.event_loop import current_task
from otel_coach.core.guard import guarded, swallowed
from otel_coach.core.plain import text_of
from otel_coach.core.spans import CURRENT_RUN
from otel_coach.instrumentors.genai.billing import billing_of
from otel_coach.instrumentors.genai.embedding_call import EmbeddingCall
from otel_coach.instrumentors.genai.enclosing import Enclosing
from otel_coach.instrumentors.genai.model_call import ModelCall
from otel_coach.instrumentors.genai.run_recorder import RunRecorder
from otel_coach.instrumentors.genai.runs import RetrieverRun, Run, ToolRun
from otel_coach.instrumentors.genai.usage_blocks import as_mapping
from otel_coach.instrumentors.langchain.cached_answers import CachedAnswers
from otel_coach.instrumentors.langchain.call import LangChainCall
from otel_coach.instrumentors.langchain.model_frames import is_inside_another_model, is_inside_model
from otel_coach.instrumentors.langchain.modes import current_parent_id, input_mode, mode_of
from otel_coach.instrumentors.langchain.open_runs import OpenRuns
from otel_coach.instrumentors.langchain.owner_task import owner_task
from otel_coach.instrumentors.langchain.text_batches import TextBatches

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from otel_coach.instrumentors.genai.billing import Billing
    from otel_coach.instrumentors.genai.run_recorder import RunArguments
    from otel_coach.metrics.recorder import Recorder

    _Task = asyncio.Task[Any] | None

_GRAPH_STEP: Final = "graph:step:"
"""Prefix of the tag, with the step's number, that LangGraph puts on the run of a node only."""


class RunObserver:
    """Notified by `manager_patches` of every run of the process, sync or async, in any thread.

    Its methods have the names and arguments of langchain-core's methods. One argument is added in
    front of them: the run's manager (a list of managers where several runs start together), which
    has the run's id, its parent's id, tags and metadata. Start methods get a second one, the task
    that owns the run. A finaliser may call the methods in the middle of other code, so measurements
    are only appended to the recorder's queue.

    Args:
        ids_are_freed: whether a run's id object is freed when nothing can report the run any more.
        arguments: those of `RunRecorder`.
    """

    def __init__(self, *, ids_are_freed: bool = True, **arguments: Unpack[RunArguments]) -> None:
        self._run_recorder = RunRecorder(**arguments)
        self.recorder: Recorder = self._run_recorder.recorder
        self._captures_on_spans = self._run_recorder.captures_on_spans
        self._tracer = self._run_recorder.tracer
        self.cached_answers = CachedAnswers(self.recorder)
        self._batches = TextBatches()
        self._runs = OpenRuns(self.recorder, self._lost, ids_are_freed=ids_are_freed)
        self._open = self._runs.by_key

    # Starts

    @guarded
    def owner_task(self) -> asyncio.Task[Any] | None:
        """Returns the task that owns the run that is about to start, None if no task does."""
        return owner_task()

    @guarded
    def on_chain_start(
        self, manager: Any, task: _Task, /, serialized: Any, inputs: Any, *_: Any, **kwargs: Any
    ) -> None:
        """Starts the run of a chain, graph or node. LangChain itself reports its cancellation."""
        if self._runs.get(manager.run_id) is not None:
            return  # LangGraph starts a run twice, where LangChain's tracers get another input
        parent = self._parent_of(manager, self._model_around_chain())
        if parent is not None and parent.span is None and is_graph_step(manager.tags):
            self._start_agent(parent)
        name = kwargs.get("name")
        run = Run(parent, text_of(name) if isinstance(name, str) else "")
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
        name = text_of((serialized or {}).get("name") or kwargs.get("name") or "tool")
        run = ToolRun(self._runs.get(manager.parent_run_id), name)
        run.call_id = kwargs.get("tool_call_id")
        if self._captures_on_spans:
            run.arguments = kwargs.get("inputs") or input_str
        run.start_span(self._tracer)
        self._begin(manager.run_id, run, task)

    @guarded
    def on_retriever_start(
        self, manager: Any, task: _Task, /, serialized: Any, query: Any, *_: Any, **kwargs: Any
    ) -> None:
        """Starts the run of a retriever."""
        name = text_of(kwargs.get("name") or (serialized or {}).get("name") or "retriever")
        run = RetrieverRun(self._runs.get(manager.parent_run_id), name)
        if self._captures_on_spans:
            run.query = query
        run.start_span(self._tracer)
        self._begin(manager.run_id, run, task)

    def run_of(self, run_id: UUID | str | None) -> Run | None:
        """Returns the open run with that id, None if there is none."""
        return self._runs.get(run_id)

    # Around calls of a provider's package

    @guarded
    def enclosing(self) -> Enclosing | None:
        """Returns the run of LangChain inside of which the current code is executed, if any."""
        # Where the callbacks start in helper tasks, as those of a text model, the context of the
        # model's own code does not name the run.
        task = current_task()
        run = None if task is None else self._runs.called_by(task)
        if run is None:
            run = self._runs.get(current_parent_id())
        return None if run is None else Enclosing(run, mode_of(run, {}))

    # While an LLM call runs

    def note(self, manager: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Notes a chunk of a streamed call.

        The token is the first argument; the chunk is the keyword argument, or the last positional.
        """
        # Inlined, of the 1.2 µs that a chunk takes: `guarded` (0.17 µs), `OpenRuns.get` (0.03 µs).
        try:
            run_id = manager.run_id
            run = self._open.get(run_id if isinstance(run_id, str) else run_id.int)
            if type(run) is LangChainCall:
                values = args or (kwargs.get("token"),)
                run.chunk_came(values[0], kwargs.get("chunk") or values[-1])
        except BaseException as raised:
            if not swallowed(self, raised, "RunObserver.note"):
                raise

    @guarded
    def on_stream_event(self, manager: Any, /, event: Any, **_: Any) -> None:
        """Notes an event of a call that is streamed by `astream_events(version="v3")`."""
        run = self._runs.get(manager.run_id)
        if isinstance(run, LangChainCall):
            run.was_streamed = True
            if event.get("event") == "content-block-delta":
                kind = (as_mapping(event.get("delta")) or {}).get("type")
                run.token_came(is_reasoning=kind == "reasoning-delta")

    # Ends

    @guarded
    def on_llm_end(self, manager: Any, /, response: Any, **_: Any) -> None:
        """Ends an LLM call that succeeded, or that LangChain's cache answered."""
        run = self._runs.get(manager.run_id)
        if isinstance(run, LangChainCall):
            run.is_from_cache = self.cached_answers.includes(response, manager.run_id)
        self._end(manager.run_id, response=response, billing=billing_of(response))

    @guarded
    def on_llm_error(self, manager: Any, /, error: BaseException, **kwargs: Any) -> None:
        """Ends an LLM call that failed, or that its consumer closed or cancelled."""
        response = kwargs.get("response")
        billing = None if response is None else billing_of(response)
        self._end(manager.run_id, error, response, billing)

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
        self._end(manager.run_id, response=output)

    @guarded
    def on_retriever_end(self, manager: Any, /, documents: Any, **_: Any) -> None:
        """Ends the run of a retriever that succeeded."""
        self._end(manager.run_id, response=documents)

    on_tool_error = on_chain_error
    on_retriever_error = on_chain_error

    @guarded
    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open runs for which `which` is true, and counts them as aborted."""
        self._runs.lose(which)
        self.recorder.flush()

    # What they share

    def _begin(self, run_id: UUID, run: Run, task: _Task = None) -> None:
        self._runs.add(run_id, run, task)
        self._run_recorder.enter(run)

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
        around = self._around_model()
        for manager, prompt in zip(managers, prompts, strict=True):
            parent = self._parent_of(manager, around)
            if (outer := _model_around(parent)) is not None:
                outer.wraps = True
            run = LangChainCall(parent, serialized, manager.metadata, parameters)
            run.mode = mode_of(run, manager.metadata)
            if options.get("batch_size", 1) != 1:
                run.batch = self._batches.of(parameters)
            self._run_recorder.start_call(run, prompt)
            self._begin(manager.run_id, run, task)

    def _parent_of(self, manager: Any, around: Run | None) -> Run | None:
        """Returns the run around the one that starts.

        LangChain's ids name the run whose configuration was passed on. That may be one outside of
        the call `around`: a model that calls another one rarely passes its own on.
        """
        named = self._runs.get(manager.parent_run_id)
        return named if around is None or _is_inside(named, around) else around

    def _model_around_chain(self) -> Run | None:
        """Returns the open call of a model whose code starts a chain."""
        run: Any = otel_context.get_value(CURRENT_RUN)
        is_open = isinstance(run, LangChainCall) and not run.ended
        return run if is_open and is_inside_model() else None

    def _around_model(self) -> Run | None:
        """Returns the open call whose code calls a model.

        It may be that of an embedding model, which has no id of LangChain's.
        """
        run: Any = otel_context.get_value(CURRENT_RUN)
        if run is None or not run.calls_provider or run.ended:
            return None
        if isinstance(run, EmbeddingCall):
            return run
        is_wrapper = isinstance(run, LangChainCall) and is_inside_another_model()
        return run if is_wrapper else None

    def _end(
        self,
        run_id: UUID,
        error: BaseException | None = None,
        response: object = None,
        billing: Billing | None = None,
    ) -> None:
        run = self._runs.pop(run_id)
        if run is None:
            return
        self._run_recorder.close(run, error, response, billing=billing)
        if run.parent is None:
            self.recorder.flush()

    @guarded
    def _lost(self, run: Run) -> None:
        self._run_recorder.close(run, was_lost=True)


def _is_inside(run: Run | None, outer: Run) -> bool:
    while run is not None and run is not outer:
        run = run.parent
    return run is outer


def _model_around(run: Run | None) -> ModelCall | None:
    while run is not None and not isinstance(run, ModelCall):
        run = run.parent
    return run


def is_graph_step(tags: list[str] | None) -> bool:
    """Returns whether the tags of a run say that it is a node of a graph."""
    return any(tag.startswith(_GRAPH_STEP) for tag in tags or ())
