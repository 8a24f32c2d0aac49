"""One call of a model: gathers data while it runs, and records it once when it ends."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.core.plain import text_of
from otel_coach.instrumentors.genai.billing import (
    Billing,
    fees_of,
    finish_reasons,
    priced_models,
    reason_texts,
    response_models,
    searches_of,
    stated_cost,
    tier_of,
    usage_is_with_another_call,
    usage_of,
)
from otel_coach.instrumentors.genai.runs import ProviderCall
from otel_coach.instrumentors.genai.usage_blocks import tier_of_chunks, usage_of_chunks
from otel_coach.metrics.catalogue import (
    AI_ABANDONED_COST,
    AI_ABANDONED_TOKENS,
    LLM_CACHED_TOKENS,
    LLM_COST,
    LLM_LATENCY,
    LLM_REASONING_TOKENS,
    LLM_REQUESTS,
    LLM_TIME_PER_OUTPUT_TOKEN,
    LLM_TIME_TO_FIRST_TOKEN,
    LLM_TOKENS,
    LLM_UNMEASURED,
)
from otel_coach.metrics.labels import (
    COMPLETION,
    ERROR,
    EXTRA_FEE,
    INVOKE,
    NO_MODEL,
    NO_PRICE,
    NO_USAGE,
    OK,
    PROMPT,
    STREAM,
    UNMEASURED,
    model_text,
)
from otel_coach.pricing.price_list import CallDetails

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.util.types import AttributeValue

    from otel_coach.instrumentors.genai.runs import End, Run
    from otel_coach.instrumentors.genai.unmeasured import UnmeasuredLog
    from otel_coach.metrics.recorder import Recorder
    from otel_coach.pricing.price_list import PriceList
    from otel_coach.pricing.usage import Usage

_NO_BILLING: Final = Billing()
_RAISED_FOR_ANSWERS: Final = frozenset(
    {"ContentFilterFinishReasonError", "LengthFinishReasonError"}
)
"""Exceptions by which the openai package refuses an answer that came."""


class _Bill(NamedTuple):
    """What a call costs."""

    usd: float | None
    unmeasured: str | None = None
    """Why the cost is missing, or not whole."""
    unpaid: Sequence[str] = ()
    """The fees without a price."""


class PromptBatch:
    """Calls that the provider answers together: the first answer may have the usage of all."""

    has_usage = False
    """Whether a call of the batch had usage; the first call is recorded first."""


class ModelCall(ProviderCall):
    """A run that is one call of a model."""

    operation = "chat"

    __slots__ = (
        "api_url",
        "batch",
        "begins_with_reasoning",
        "chunk_usages",
        "finish_reason",
        "first_token",
        "is_from_cache",
        "last_token",
        "mode",
        "model",
        "prompt",
        "provider",
        "sent_request",
        "was_streamed",
        "wraps",
    )

    def __init__(self, parent: Run | None, model: object, provider: str | None) -> None:
        super().__init__(parent, text_of(model) if model else NO_MODEL, calls_provider=True)
        self.model = self.name
        self.provider = provider
        self.api_url: str | None = None
        """The address that was asked, if the instrumentation of the client beneath has set it."""
        self.mode: str | None = None
        self.prompt: Sequence[object] = ()
        """The messages; kept only if content is captured."""
        self.was_streamed = False
        self.finish_reason: str | None = None
        """The finish reason that a chunk has brought."""
        self.batch: PromptBatch | None = None
        self.is_from_cache = False
        """Whether LangChain's own cache answered, so that there was no call."""
        self.chunk_usages: list[object] | None = None
        """Usage blocks of the chunks; all that is known of a run whose end is never reported."""
        self.wraps = False
        """Whether it called another model of LangChain."""
        self.sent_request = False
        """Whether it sent a request by a provider's package itself."""
        self.first_token: float | None = None
        self.last_token: float | None = None
        self.begins_with_reasoning = False
        """Whether the first token was one of reasoning: then the usage's reasoning was streamed."""

    def token_came(self, *, is_reasoning: bool = False) -> None:
        """Notes a chunk with content, a tool call or reasoning."""
        self.last_token = now = perf_counter()
        if self.first_token is None:
            self.first_token = now
            self.begins_with_reasoning = is_reasoning

    @property
    def is_wrapper(self) -> bool:
        """Whether it only called other models, which are counted in its place."""
        return self.wraps and not self.sent_request

    @property
    def was_no_call(self) -> bool:
        """Whether a cache or other models have answered in its place."""
        return self.is_from_cache or self.is_wrapper

    def asked_url(self) -> str | None:
        """Returns the address that was asked, None if it is not known."""
        return self.api_url

    def usage(self, end: End) -> Usage | None:
        """Returns the billed usage, as far as the application has received it."""
        at_end = usage_of(end.billing or _NO_BILLING)
        # If chunks have usage, it counts: the answer's is langchain-core's sum over them, which is
        # too large where a provider repeats running totals, and lacks parts in older versions. The
        # answer's is taken only where the totals agree and no chunk names parts; it may name them.
        usage = usage_of_chunks(self.chunk_usages or ()) or at_end
        if usage is not None and at_end is not None and not usage.has_parts:
            same = (usage.prompt, usage.completion) == (at_end.prompt, at_end.completion)
            usage = at_end if same else usage
        if self.batch is not None and usage is not None:
            self.batch.has_usage = True
        return usage

    def record(
        self,
        recorder: Recorder,
        prices: PriceList,
        end: End,
        usage: Usage | None,
        log: UnmeasuredLog,
    ) -> None:
        """Records the call; called by the recorder when it flushes."""
        context = self.context
        mode = self.mode or (STREAM if self.was_streamed else INVOKE)
        labels = (self.model, mode, end.status, end.error_type)
        recorder.record(LLM_REQUESTS, 1, labels, context)
        recorder.record(LLM_LATENCY, end.seconds, (self.model, end.status), context)
        if self.first_token is not None:
            waited = self.first_token - self.started
            recorder.record(LLM_TIME_TO_FIRST_TOKEN, waited, (self.model,), context)
        unpaid: Sequence[str] = ()
        if usage is None:
            reason = None if self._needs_no_usage(end) else NO_USAGE
        else:
            self._record_tokens(recorder, usage)
            cost, reason, unpaid = self._bill(prices, end, usage)
            if cost is not None:
                recorder.record(LLM_COST, cost, (self.model,), context)
            if end.was_abandoned:
                self._record_abandoned(recorder, usage, cost)
            if end.status != OK and self.was_streamed and self.finish_reason is None:
                reason = NO_USAGE  # the stream broke: what has come is the least that is billed
        # Recorded with 0 too: an alert's rate() needs the series before the first such call.
        for name in UNMEASURED:
            recorder.record(LLM_UNMEASURED, int(name == reason), (self.model, name))
        # A stream has its usage at its end: that it is missing before is no mistake.
        is_expected = reason == NO_USAGE and (end.was_left or end.status == ERROR)
        if reason is not None and not is_expected:
            log.note(self.model, reason, *([", ".join(unpaid)] if unpaid else ()))

    def _record_tokens(self, recorder: Recorder, usage: Usage) -> None:
        context, record = self.context, recorder.record
        record(LLM_TOKENS, usage.prompt, (self.model, PROMPT), context)
        record(LLM_TOKENS, usage.completion, (self.model, COMPLETION), context)
        record(LLM_CACHED_TOKENS, usage.cached, (self.model,), context)
        record(LLM_REASONING_TOKENS, usage.reasoning, (self.model,), context)
        # Reasoning that is not in the stream was over before the first token.
        streamed = usage.completion - (0 if self.begins_with_reasoning else usage.reasoning)
        first, last = self.first_token, self.last_token
        if first is not None and last is not None and last > first and streamed > 1:
            pace = (last - first) / (streamed - 1)
            record(LLM_TIME_PER_OUTPUT_TOKEN, pace, (self.model,), context)

    def _bill(self, prices: PriceList, end: End, usage: Usage) -> _Bill:
        billing = end.billing or _NO_BILLING
        if (cost := stated_cost(billing)) is not None:
            return _Bill(cost)
        call = CallDetails(
            self.provider or "",
            self.asked_url(),
            tier_of(billing) or tier_of_chunks(self.chunk_usages or ()),
            fees_of(billing, self.model),
            searches_of(billing),
        )
        models = priced_models(response_models(billing), self.model, call.provider or "")
        priced = prices.priced(usage, models, call)
        if priced is None:
            return _Bill(None, NO_PRICE)
        return _Bill(priced.usd, EXTRA_FEE if priced.unpaid else None, priced.unpaid)

    def _record_abandoned(self, recorder: Recorder, usage: Usage, cost: float | None) -> None:
        """Records what the call cost although its client had left."""
        request = self.request
        if request is None or request.abandoned_endpoint is None:
            return
        labels = (request.abandoned_endpoint, request.model or NO_MODEL)
        recorder.record(AI_ABANDONED_TOKENS, usage.prompt, (*labels, PROMPT), self.context)
        recorder.record(AI_ABANDONED_TOKENS, usage.completion, (*labels, COMPLETION), self.context)
        if cost is not None:
            recorder.record(AI_ABANDONED_COST, cost, labels, self.context)

    def _needs_no_usage(self, end: End) -> bool:
        """Whether nothing is missing if the answer names no usage."""
        if end.status == ERROR and not self.was_streamed:
            # Most of these were rejected, and not billed. A call whose time limit ended, or whose
            # connection broke, may be billed, but whether it is cannot be told (docs/reconcile.md).
            return end.error_type not in _RAISED_FOR_ANSWERS
        batch = self.batch
        return (
            batch is not None
            and batch.has_usage
            and usage_is_with_another_call(end.billing or _NO_BILLING)
        )


def response_attributes(
    call: ModelCall, billing: Billing | None, usage: Usage | None
) -> dict[str, AttributeValue]:
    """Returns the span attributes from the answer, by the GenAI semantic conventions."""
    attributes: dict[str, AttributeValue] = {}
    if usage is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt
        attributes["gen_ai.usage.output_tokens"] = usage.completion
        if usage.cached:
            attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached
        if usage.cache_write:
            attributes["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write
        if usage.reasoning:
            attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning
    billing = billing or _NO_BILLING
    if models := tuple(response_models(billing)):
        attributes["gen_ai.response.model"] = model_text(models[0])
    if reasons := finish_reasons(billing) or reason_texts((call.finish_reason,)):
        attributes["gen_ai.response.finish_reasons"] = reasons
    return attributes
