"""Names of providers by the semantic conventions, and of models, where a package has others."""

import pytest

from tests.support.agents import CALLS as REQUESTS
from tests.support.providers.double import Answer
from tests.support.providers.integrations import KEY, Price
from tests.support.providers.ways import CALLS


def _aws(name, **arguments):
    import langchain_aws

    return getattr(langchain_aws, name)(region_name="us-east-1", bedrock_api_key=KEY, **arguments)


@pytest.mark.parametrize("way", CALLS)
def test_claude_by_bedrock_mantle_is_bedrocks(observe, way):
    """ls_provider `anthropic-mantle`."""
    model = _aws("ChatAnthropicMantle", model="anthropic.claude-sonnet-4-5-20250929-v1:0")
    outcome = observe(CALLS[way], model, Answer())
    assert outcome.error is None
    assert {span.attributes["gen_ai.provider.name"] for span in outcome.chats} == {"aws.bedrock"}
    bill = Price(3.3, 16.5, cached=0.33).cost(1013, 211, 419)
    assert outcome.cost == pytest.approx(bill, rel=1e-9)


@pytest.mark.parametrize("way", CALLS)
def test_an_openai_model_by_bedrock_mantle_is_bedrocks(observe, way):
    """ls_provider `openai-mantle`."""
    model = _aws("ChatOpenAIMantle", model="openai.gpt-oss-120b", stream_usage=True)
    outcome = observe(CALLS[way], model, Answer())
    assert outcome.error is None
    assert {span.attributes["gen_ai.provider.name"] for span in outcome.chats} == {"aws.bedrock"}
    # The list has no price of Amazon's for it; OpenAI's are a stranger's.
    assert outcome.cost == 0
    assert outcome.unmeasured("no_price") == 1


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_text_model_of_hugging_face_has_its_name(observe, way):
    from langchain_huggingface import HuggingFaceEndpoint

    model = HuggingFaceEndpoint(
        repo_id="mistralai/Mistral-7B-Instruct-v0.2",
        provider="together",
        huggingfacehub_api_token=f"hf_{KEY}",
    )
    outcome = observe(CALLS[way], model, Answer())
    assert outcome.error is None
    assert outcome.page.sum(REQUESTS, model="mistralai/Mistral-7B-Instruct-v0.2") == 1
    assert outcome.page.sum(REQUESTS, model="none") == 0
