"""Closes the runs of model libraries: records each once, and ends its span."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from otel_coach.core.guard import guarded
from otel_coach.core.spans import end_span, time_at
from otel_coach.instrumentors.genai.embedding_call import EmbeddingCall
from otel_coach.instrumentors.genai.model_call import ModelCall, response_attributes
from otel_coach.instrumentors.genai.runs import End, RetrieverRun, ToolRun
from otel_coach.instrumentors.genai.tool_answers import says_error
from otel_coach.instrumentors.genai.unmeasured import UnmeasuredLog
from otel_coach.metrics.aggregation import NO_CONTEXT
from otel_coach.metrics.catalogue import (
    RETRIEVAL_LATENCY,
    RETRIEVAL_REQUESTS,
    TOOL_CALLS,
    TOOL_LATENCY,
)
from otel_coach.metrics.labels import ABORTED, ERROR, NO_ERROR, OK, TOOL_ERROR, span_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry._logs import Logger
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from otel_coach.core.request_context import Request
    from otel_coach.instrumentors.genai.billing import Billing
    from otel_coach.instrumentors.genai.content import ContentArguments, ContentCapture
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.catalogue import Metric
    from otel_coach.metrics.recorder import Recorder
    from otel_coach.pricing.price_list import PriceList

    class RunArguments(TypedDict):
        """The arguments of `RunRecorder`, which says what they are."""

        recorder: Recorder
        tracer: Tracer
        prices: PriceList
        reported: NotRequired[set[tuple[str, str]]]
        content: NotRequired[ContentArguments]
        events: NotRequired[Logger]

    class ModelArguments(RunArguments):
        """The arguments of an instrumentor of models."""

        stops: NotRequired[bool]
        """Whether the patches that refuse calls in stopped work are made at once; otherwise they
        are made when the application first asks for stopping."""


PAUSED: Final = "paused"
"""The outcome of a tool or retriever that waits for a human; it is on the span only."""
_PAUSES: Final = frozenset({"GraphBubbleUp", "GraphInterrupt"})
"""Exceptions by which LangGraph pauses a run for a human; nothing failed."""

_NAMED: Final[Mapping[type[Run], tuple[Metric, Metric]]] = {
    ToolRun: (TOOL_CALLS, TOOL_LATENCY),
    RetrieverRun: (RETRIEVAL_REQUESTS, RETRIEVAL_LATENCY),
}
"""The counter and the histogram of the runs that are counted by their names."""


class RunRecorder:
    """Starts and closes runs, of whichever library.

    An end may be reported by a finaliser in the middle of other code, so measurements are only
    appended to the recorder's queue.

    Args:
        recorder: records the measurements.
        tracer: makes the spans.
        prices: converts tokens to US dollars.
        reported: the models and reasons whose calls the log has reported as unmeasured; several
            recorders may share it.
        content: the arguments of `ContentCapture`; nothing is captured by default.
        events: emits captured content as events.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - by name, each a part
        self,
        recorder: Recorder,
        tracer: Tracer,
        prices: PriceList,
        reported: set[tuple[str, str]] | None = None,
        content: ContentArguments | None = None,
        events: Logger | None = None,
    ) -> None:
        self.recorder = recorder
        self.tracer = tracer
        self.prices = prices
        self.content = None if content is None else _capture_of(content)
        """Captures content; None if none is captured."""
        self.captures_on_spans = self.content is not None and self.content.on_spans
        self._events = events
        self._unmeasured = UnmeasuredLog(reported)
        self._record_later = self._record  # bound once: else each queued run keeps a method object

    def start_call(self, run: ModelCall, prompt: object) -> None:
        """Starts the span of a call of a model; `run.mode` is set already."""
        if run.request is not None:
            run.request.ai_work_started(model=run.model, mode=run.mode)
        if self.content is not None:
            run.prompt = (prompt,)
        run.start_span(self.tracer)

    def start_embedding(self, call: EmbeddingCall) -> None:
        """Starts the span of a call of an embedding model."""
        if call.parent is None and call.request is not None:
            call.request.embedding_started(call)
        call.start_span(self.tracer)

    @staticmethod
    def announce(run: Run) -> None:
        """Tells the request of `run` that an outermost run starts, if `run` is one."""
        if run.parent is None and run.request is not None:
            run.request.outermost_run_started(run)

    def enter(self, run: Run) -> None:
        """Announces `run`, and makes its span current."""
        self.announce(run)
        run.enter()

    def close(  # noqa: PLR0913 - facts of an end, by keyword
        self,
        run: Run,
        error: BaseException | None = None,
        response: object = None,
        *,
        billing: Billing | None = None,
        was_lost: bool = False,
        was_left: bool = False,
    ) -> None:
        """Ends `run`, which is recorded when the recorder flushes.

        Args:
            run: the run.
            error: what ended it, None if it succeeded.
            response: the content of the answer; kept only if content is captured.
            billing: what the answer of a model says about its bill.
            was_lost: whether it ended without an answer and without an error; it counts as aborted.
            was_left: whether its consumer stopped reading.
        """
        run.ended = True
        status = ABORTED if was_lost else _status(error)
        error_type = type(error).__name__ if status == ERROR else NO_ERROR
        failed, was_aborted = status == ERROR, status == ABORTED
        if status == OK and error is not None and isinstance(run, ToolRun | RetrieverRun):
            status = PAUSED  # the run that resumes it is counted
        elif status == OK and isinstance(run, ToolRun) and self._handled_error(run, response):
            status, error_type = ERROR, TOOL_ERROR  # the application goes on: no request fails
        if status == ABORTED and isinstance(run, ModelCall) and run.finish_reason is not None:
            status = OK  # the consumer had read all there was to read
        if run.parent is None and run.request is not None:
            run.request.outermost_run_ended(run, failed=failed, was_aborted=was_aborted)
        if isinstance(run, ModelCall) and run.was_no_call and run.request is not None:
            run.request.take_back_call(run.model)
        if was_aborted and run.request is not None:
            run.request.run_aborted(run)
        if run.span is None:
            run.let_go()  # it only links other runs: nothing is recorded for it
            return
        ended = perf_counter()
        end = End(
            status=status,
            error_type=error_type,
            seconds=ended - run.started,
            was_left=was_left or was_aborted,
            time_ns=time_at(run.start_of_clock, ended),
            billing=billing,
            response=None if self.content is None else response,
        )
        if isinstance(run, ModelCall) and run.request is not None and not run.began_late:
            if status == OK and run.request.look_in_loop(self._end_in_loop, run, end):
                return
            end = _abandoned_or_not(end, run.request)
        self.recorder.later(self._record_later, run, end)

    @guarded
    def _end_in_loop(self, run: ModelCall, end: End) -> None:
        """Ends a call in the event loop's thread, where the server can be asked for the client."""
        if run.request is not None:
            end = _abandoned_or_not(end, run.request)
        self.recorder.later(self._record_later, run, end)

    @guarded
    def _handled_error(self, run: ToolRun, response: object) -> bool:
        return says_error(response, run.call_id)

    def _record(self, run: Run, end: End) -> None:
        """Records `run` and ends its span; called by the recorder when it flushes."""
        attributes: dict[str, AttributeValue] = {}
        is_recording = run.span is not None and run.span.is_recording()
        if (
            run.span is not None
        ):  # in its own context, the span of a run that has ended is not current
            run.context = trace.set_span_in_context(run.span, run.context or NO_CONTEXT)
        try:
            if end.status == PAUSED:
                attributes["otel_coach.outcome"] = PAUSED
            elif isinstance(run, ToolRun | RetrieverRun):
                attributes.update(self._record_named(run, end))
            elif isinstance(run, EmbeddingCall):
                attributes.update(run.record(self.recorder, self.prices, end, self._unmeasured))
            elif isinstance(run, ModelCall) and not run.is_wrapper:
                usage = run.usage(end)
                if is_recording or self.content is not None:
                    attributes.update(response_attributes(run, end.billing, usage))
                if run.is_from_cache:
                    attributes["otel_coach.outcome"] = "cached"
                else:
                    run.record(self.recorder, self.prices, end, usage, self._unmeasured)
                if self.content is not None:
                    found = self._content_of_call(self.content, run, end, attributes)
                    attributes.update(found or {})
            if run.span is not None and is_recording:
                self._end_span(run.span, end, attributes)
        finally:
            run.let_go()

    def _record_named(self, run: ToolRun | RetrieverRun, end: End) -> Mapping[str, AttributeValue]:
        """Records the call of a tool or the run of a retriever; returns captured content."""
        calls, latency = _NAMED[type(run)]
        labels = (run.name, end.status)
        self.recorder.record(calls, 1, (*labels, end.error_type), run.context)
        self.recorder.record(latency, end.seconds, labels, run.context)
        if self.content is None or not self.content.on_spans:
            return {}
        return self._content_of(self.content, run, end) or {}

    @guarded  # if the user's redactor fails, no content is emitted, but everything else is
    def _content_of_call(
        self,
        capture: ContentCapture,
        run: ModelCall,
        end: End,
        attributes: Mapping[str, AttributeValue],
    ) -> Mapping[str, AttributeValue]:
        """Returns the content of a call as attributes for its span; emits its event."""
        content = capture.of_call(run.prompt, end.response)
        if content is None:
            return {}
        if self._events is not None and capture.on_events:
            _, request_attributes = run.described()
            event_attributes = {**request_attributes, **attributes, **content}
            self._events.emit(capture.event_of_call(event_attributes, end.time_ns, run.context))
        return capture.as_span_attributes(content) if capture.on_spans else {}

    @guarded
    def _content_of(
        self, capture: ContentCapture, run: ToolRun | RetrieverRun, end: End
    ) -> Mapping[str, AttributeValue]:
        if isinstance(run, ToolRun):
            return capture.as_span_attributes(capture.of_tool(run.arguments, end.response))
        return capture.as_span_attributes(capture.of_retrieval(run.query, end.response))

    def _end_span(self, span: Span, end: End, attributes: dict[str, AttributeValue]) -> None:
        if end.status == ABORTED:
            attributes["otel_coach.outcome"] = ABORTED
        failed = end.status == ERROR
        if failed:
            attributes["error.type"] = span_text(end.error_type)
        status = Status(StatusCode.ERROR) if failed else None
        end_span(span, end.time_ns, None, attributes, status)


def _capture_of(arguments: ContentArguments) -> ContentCapture | None:
    if not (arguments.get("on_spans") or arguments.get("on_events")):
        return None
    from otel_coach.instrumentors.genai.content import ContentCapture  # noqa: PLC0415 - most capture none

    return ContentCapture(**arguments)


def _abandoned_or_not(end: End, request: Request) -> End:
    return end._replace(was_abandoned=True) if request.client_has_left() else end


def _status(error: BaseException | None) -> str:
    if error is None or any(cls.__name__ in _PAUSES for cls in type(error).__mro__):
        return OK
    # GeneratorExit, CancelledError, KeyboardInterrupt: the consumer stopped the run.
    return ERROR if isinstance(error, Exception) else ABORTED
