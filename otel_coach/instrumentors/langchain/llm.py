"""One LLM call: gathers data while it runs, and records it once when it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.trace import SpanKind

from otel_coach.instrumentors.langchain.open_runs import End, Run
from otel_coach.instrumentors.langchain.usage import messages_of, usage_of, usage_of_chunks
from otel_coach.metrics.catalogue import (
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
    INVOKE,
    NO_MODEL,
    NO_PRICE,
    NO_USAGE,
    OTHER,
    PROMPT,
    STREAM,
    label_value,
    model_text,
    span_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.util.types import AttributeValue

    from otel_coach.metrics.recorder import Recorder
    from otel_coach.pricing.price_list import PriceList, Usage

_SEMCONV_PROVIDER: Final = {
    "amazon_bedrock": "aws.bedrock",
    "anthropic_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""gen_ai.provider.name of the semantic conventions where `ls_provider` differs."""

_REASON: Final = re.compile(r"[\w.-]{1,40}")
_REASONING_BLOCKS: Final = frozenset({"reasoning", "thinking"})


class LlmRun(Run):
    """A run that is one call of a model."""

    __slots__ = (
        "chunk_usages",
        "first_token",
        "is_from_cache",
        "last_token",
        "mode",
        "model",
        "prompt",
        "provider",
        "was_streamed",
    )

    def __init__(
        self,
        parent: Run | None,
        serialized: object,
        metadata: Mapping[str, Any],
        parameters: Mapping[str, Any],
    ) -> None:
        model = (
            metadata.get("ls_model_name")
            or parameters.get("model")
            or parameters.get("model_name")
            or _serialized_model(serialized)
        )
        super().__init__(parent, str(model) if model else NO_MODEL, is_llm=True)
        self.model = self.name
        self.provider: str | None = metadata.get("ls_provider")
        self.mode: str | None = None
        self.prompt: Sequence[object] = ()
        """The messages; kept only if content is captured."""
        self.was_streamed = False
        self.is_from_cache = False
        """Whether LangChain's own cache answered, so that there was no call."""
        self.chunk_usages: list[object] | None = None
        """Usage blocks of the chunks, for a run whose end is never reported."""
        self.first_token: float | None = None
        self.last_token: float | None = None

    def token_came(self, token: object, chunk: object) -> None:
        """Notes a chunk; one without content, tool call or reasoning does not count as a token."""
        self.was_streamed = True
        message = getattr(chunk, "message", None)
        if message is not None and (usage := getattr(message, "usage_metadata", None)):
            if self.chunk_usages is None:
                self.chunk_usages = []
            self.chunk_usages.append(usage)
        if token or _has_more_than_text(message):
            self.last_token = now = perf_counter()
            if self.first_token is None:
                self.first_token = now

    kind = SpanKind.CLIENT

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        """Returns the span's name and attributes by the GenAI semantic conventions."""
        model = model_text(self.model)
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
        }
        if self.provider:
            provider = _SEMCONV_PROVIDER.get(self.provider, self.provider)
            attributes["gen_ai.provider.name"] = span_text(provider)
        return f"chat {model}", attributes

    def usage(self, end: End) -> Usage | None:
        """Returns the billed usage, as far as the application has received it."""
        return usage_of(end.response) or usage_of_chunks(self.chunk_usages or ())

    def record(self, recorder: Recorder, prices: PriceList, end: End, usage: Usage | None) -> None:
        """Records the call; called by the recorder when it flushes."""
        context = self.context
        mode = self.mode or (STREAM if self.was_streamed else INVOKE)
        labels = (self.model, mode, end.status, end.error_type)
        recorder.record(LLM_REQUESTS, 1, labels, context)
        recorder.record(LLM_LATENCY, end.seconds, (self.model, end.status), context)
        if self.first_token is not None:
            waited = self.first_token - self.started
            recorder.record(LLM_TIME_TO_FIRST_TOKEN, waited, (self.model,), context)
        self._record_usage(recorder, prices, end, usage)

    def _record_usage(
        self, recorder: Recorder, prices: PriceList, end: End, usage: Usage | None
    ) -> None:
        context = self.context
        cost = None
        if usage is not None:
            record = recorder.record
            record(LLM_TOKENS, usage.prompt, (self.model, PROMPT), context)
            record(LLM_TOKENS, usage.completion, (self.model, COMPLETION), context)
            record(LLM_CACHED_TOKENS, usage.cached, (self.model,), context)
            record(LLM_REASONING_TOKENS, usage.reasoning, (self.model,), context)
            if self.first_token and self.last_token and usage.completion > 1:
                pace = (self.last_token - self.first_token) / (usage.completion - 1)
                record(LLM_TIME_PER_OUTPUT_TOKEN, pace, (self.model,), context)
            billed = tuple(dict.fromkeys((*response_models(end.response), self.model)))
            cost = prices.cost(usage, tuple(filter(label_value, billed)), self.provider)
            if cost is not None:
                record(LLM_COST, cost, (self.model,), context)
        # A call that failed before its first chunk was rejected, and not billed.
        was_rejected = end.status == ERROR and not self.was_streamed
        no_usage = usage is None and not was_rejected
        no_price = usage is not None and cost is None
        # Recorded with 0 too: an alert's rate() needs the series before the first such call.
        recorder.record(LLM_UNMEASURED, int(no_usage), (self.model, NO_USAGE))
        recorder.record(LLM_UNMEASURED, int(no_price), (self.model, NO_PRICE))


def response_attributes(response: object, usage: Usage | None) -> dict[str, AttributeValue]:
    """Returns the span attributes from the response, by the GenAI semantic conventions."""
    attributes: dict[str, AttributeValue] = {}
    if usage is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt
        attributes["gen_ai.usage.output_tokens"] = usage.completion
        if usage.cached:
            attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached
        if usage.cache_write:
            attributes["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write
    if models := tuple(response_models(response)):
        attributes["gen_ai.response.model"] = model_text(models[0])
    reasons = [
        reason if _REASON.fullmatch(reason) else OTHER
        for metadata in _response_metadata(response)
        for key in ("finish_reason", "stop_reason", "done_reason")
        if isinstance(reason := metadata.get(key), str)
    ]
    if reasons:
        attributes["gen_ai.response.finish_reasons"] = tuple(reasons)
    return attributes


def response_models(response: object) -> Iterator[str]:
    """Yields the models that the response names as its origin."""
    for metadata in _response_metadata(response):
        model = metadata.get("model_name") or metadata.get("model")
        if isinstance(model, str) and model:
            yield model


def _response_metadata(response: object) -> Iterator[Mapping[str, Any]]:
    for message in messages_of(response):
        metadata = getattr(message, "response_metadata", None)
        if isinstance(metadata, Mapping):
            yield cast("Mapping[str, Any]", metadata)


def _serialized_model(serialized: object) -> object:
    if not isinstance(serialized, Mapping):
        return None
    kwargs: Any = cast("Mapping[str, Any]", serialized).get("kwargs")
    if not isinstance(kwargs, Mapping):
        return None
    return cast("Any", kwargs).get("model_name") or cast("Any", kwargs).get("model")


def _has_more_than_text(message: object) -> bool:
    """Returns whether a chunk without text has a tool call or reasoning."""
    if getattr(message, "tool_call_chunks", None):
        return True
    extra: Any = getattr(message, "additional_kwargs", None)
    if extra and (extra.get("reasoning_content") or extra.get("function_call")):
        return True
    content: Any = getattr(message, "content", None)
    return isinstance(content, list) and any(
        isinstance(block, Mapping) and cast("Any", block).get("type") in _REASONING_BLOCKS
        for block in cast("list[object]", content)
    )
