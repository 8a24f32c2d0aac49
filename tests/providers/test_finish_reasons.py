"""Answers that were cut short say so on the span, in the provider's own word."""

import pytest

from tests.support.providers.double import Answer
from tests.support.providers.integrations import INTEGRATIONS
from tests.support.providers.ways import CALLS

CUT_SHORT = {
    "ChatOpenAI": "length",
    "ChatOpenAI, Responses": "max_output_tokens",  # incomplete_details.reason
    "AzureChatOpenAI": "length",
    "ChatAnthropic": "max_tokens",
    "ChatGoogleGenerativeAI": "MAX_TOKENS",
    "ChatOllama": "length",
    "OllamaLLM": "length",
    "ChatMistralAI": "length",
    "ChatGroq": "length",
    "ChatBedrockConverse": "max_tokens",  # stopReason
    "ChatAnthropicBedrock": "max_tokens",
    "ChatDeepSeek": "insufficient_system_resource",
    "ChatXAI": "length",
    "ChatCohere": "MAX_TOKENS",
    "ChatFireworks": "length",
    "ChatTogether": "eos",
    "ChatLiteLLM": "length",
    "ChatOpenRouter": "length",
    "ChatPerplexity": "length",
    "ChatHuggingFace": "length",
}


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("name", CUT_SHORT)
def test_why_an_answer_was_cut_short(observe, local_url, name, way):
    integration = INTEGRATIONS[name]
    model = integration.make(*(local_url,) * integration.needs_address)
    reason = CUT_SHORT[name]
    outcome = observe(CALLS[way], model, Answer(finish=reason))
    assert outcome.error is None
    handed = outcome.handed.has(reason)
    assert handed != (way in integration.withholds.get("finish", ()))
    assert outcome.finishes == [(reason,) * handed]
