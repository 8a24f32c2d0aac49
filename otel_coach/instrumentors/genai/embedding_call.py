"""One call of an embedding model: gathers what its provider answers, and records it once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.core.plain import text_of
from otel_coach.instrumentors.genai.billing import priced_models
from otel_coach.instrumentors.genai.runs import ProviderCall
from otel_coach.instrumentors.genai.usage_blocks import is_count
from otel_coach.metrics.catalogue import (
    EMBEDDING_LATENCY,
    EMBEDDING_REQUESTS,
    LLM_COST,
    LLM_TOKENS,
    LLM_UNMEASURED,
)
from otel_coach.metrics.labels import (
    ABORTED,
    EMBEDDING,
    ERROR,
    NO_MODEL,
    NO_PRICE,
    NO_USAGE,
    model_text,
)
from otel_coach.pricing.price_list import CallDetails, Usage

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from otel_coach.instrumentors.genai.runs import End, Run
    from otel_coach.instrumentors.genai.unmeasured import UnmeasuredLog
    from otel_coach.metrics.recorder import Recorder
    from otel_coach.pricing.price_list import PriceList

_TOKENS: Final = (
    "prompt_tokens",  # OpenAI, Azure, Mistral
    "input_tokens",  # Cohere's billed units
    "prompt_eval_count",  # Ollama
    "inputTextTokenCount",  # Amazon Titan
    "total_tokens",  # Voyage, Jina: an embedding has no other tokens
)
"""What providers call the count of input tokens. The openai package gets the usage blocks of other
providers, too, if it asks a gateway."""


class EmbeddingCall(ProviderCall):
    """A run that is one call of an embedding model.

    While it is open, it is `CURRENT_RUN` in the context: the instrumentation of the client beneath
    finds it there, and passes the provider's answers on to it (`answered`).

    Args:
        parent: the run around the call.
        model: the model asked for, None if it is not known.
        provider: the provider's name, or that of the integration that calls it.
    """

    operation = "embeddings"

    __slots__ = (
        "answered_model",
        "answers",
        "api_url",
        "dimensions",
        "model",
        "provider",
        "source",
        "wraps",
    )

    def __init__(self, parent: Run | None, model: object, provider: str | None = None) -> None:
        super().__init__(parent, text_of(model) if model else NO_MODEL, calls_provider=True)
        self.model = self.name
        self.provider = provider
        self.api_url: str | None = None
        """The address that is asked, if it is known."""
        self.dimensions: int | None = None
        """The size of the vectors that was asked for."""
        self.source: object = None
        """The object whose method was called; its own further calls are part of this one."""
        self.wraps = False
        """Whether another embedding model was called inside, so that this was no call itself."""
        self.answers: list[int | None] = []
        """The billed tokens of each answer of the provider, None where it named none."""
        self.answered_model: object = None

    def answered(self, usage_block: object, model: object = None) -> None:
        """Notes one answer of the provider to this call, of which there may be several.

        Args:
            usage_block: the provider's usage block, a mapping or an object; None if it sent none.
            model: the model that the answer names.
        """
        self.answers.append(_tokens(usage_block))
        self.answered_model = model or self.answered_model

    def described(self) -> tuple[str, dict[str, AttributeValue]]:
        name, attributes = super().described()
        if self.dimensions is not None:
            attributes["gen_ai.embeddings.dimension.count"] = self.dimensions
        return name, attributes

    @property
    def tokens(self) -> int | None:
        """The billed tokens that the answers name; None if no answer names any."""
        counts = [count for count in self.answers if count is not None]
        return sum(counts) if counts else None

    def record(
        self, recorder: Recorder, prices: PriceList, end: End, log: UnmeasuredLog
    ) -> dict[str, AttributeValue]:
        """Records the call, unless it only wraps others; called by the recorder when it flushes.

        Returns the span's attributes from the answers, by the GenAI semantic conventions.
        """
        tokens = self.tokens
        if self.answers or not self.wraps:
            record, context = recorder.record, self.context
            record(EMBEDDING_REQUESTS, 1, (self.model, end.status, end.error_type), context)
            record(EMBEDDING_LATENCY, end.seconds, (self.model, end.status), context)
            reason = None if tokens is None else self._record_bill(recorder, prices, tokens)
            if self._lacks_usage(end.status):
                reason = NO_USAGE
            # Recorded with 0 too: an alert's rate() needs the series before the first such call.
            for name in (NO_USAGE, NO_PRICE):
                record(LLM_UNMEASURED, int(name == reason), (self.model, name))
            if reason is not None and not (reason == NO_USAGE and end.was_left):
                log.note(self.model, reason)
        attributes: dict[str, AttributeValue] = {}
        if tokens is not None:
            attributes["gen_ai.usage.input_tokens"] = tokens
        if self.answered_model:
            attributes["gen_ai.response.model"] = model_text(self.answered_model)
        return attributes

    def _record_bill(self, recorder: Recorder, prices: PriceList, tokens: int) -> str | None:
        """Records tokens and cost; returns why there is no cost, if there is none."""
        recorder.record(LLM_TOKENS, tokens, (self.model, EMBEDDING), self.context)
        call = CallDetails(self.provider or "", self.api_url)
        models = priced_models((self.answered_model,), self.model, call.provider or "")
        priced = prices.priced(Usage(tokens, 0), models, call)
        if priced is None:
            return NO_PRICE
        recorder.record(LLM_COST, priced.usd, (self.model,), self.context)
        return None

    def _lacks_usage(self, status: str) -> bool:
        """Whether tokens may have been billed beyond those that the answers name."""
        if not self.answers:
            return status != ERROR  # most of these were rejected, and not billed
        # An aborted call may have sent a request whose answer never came.
        return status == ABORTED or None in self.answers


def _tokens(block: object) -> int | None:
    """Returns the input tokens that a usage block names, None if it names none."""
    if block is None:
        return None
    for name in _TOKENS:
        value = (
            cast("Mapping[str, Any]", block).get(name)
            if isinstance(block, Mapping)
            else getattr(block, name, None)
        )
        if is_count(value):
            return value
    return None
