"""A price is the price of the provider that was asked, never a stranger's for the same name."""

import json

import pytest
from langchain_openai import ChatOpenAI

from otel_coach.settings import Settings
from tests.support.providers.double import Answer
from tests.support.providers.integrations import KEY, Price
from tests.support.providers.ways import CALLS


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("model", ["deepseek-r1", "mistral-nemo", "command-r", "deepseek-r1:8b"])
@pytest.mark.parametrize("class_name", ["ChatOllama", "OllamaLLM"])
def test_a_model_on_ollama_has_no_price(observe, local_url, class_name, model, way):
    import langchain_ollama

    made = getattr(langchain_ollama, class_name)(model=model, base_url=local_url)
    outcome = observe(CALLS[way], made, Answer())
    assert outcome.error is None
    assert outcome.cost == 0
    assert outcome.unmeasured("no_price") == 1
    assert outcome.unmeasured("no_usage") == 0
    assert outcome.tokens("prompt") == 1013


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("model", ["gpt-5.2", "gpt-3.5-turbo", "mistral-nemo"])
def test_a_server_of_ones_own_behind_chat_openai_has_no_price(observe, local_url, model, way):
    made = ChatOpenAI(model=model, api_key=KEY, base_url=f"{local_url}/v1", stream_usage=True)
    outcome = observe(CALLS[way], made, Answer())
    assert outcome.error is None
    assert outcome.cost == 0
    assert outcome.unmeasured("no_price") == 1
    assert outcome.tokens("completion") == 211


@pytest.mark.parametrize("variable", ["OPENAI_API_BASE", "OPENAI_BASE_URL"])
def test_an_address_from_the_environment_is_a_server_of_ones_own_too(
    observe, local_url, monkeypatch, variable
):
    monkeypatch.setenv(variable, f"{local_url}/v1")
    outcome = observe(CALLS["invoke"], ChatOpenAI(model="gpt-5.2", api_key=KEY), Answer())
    assert [call.host for call in outcome.calls] == ["127.0.0.1"]
    assert outcome.cost == 0
    assert outcome.unmeasured("no_price") == 1


def test_claude_behind_a_gateway_of_ones_own_has_no_price(observe, local_url):
    from langchain_anthropic import ChatAnthropic

    made = ChatAnthropic(model="claude-sonnet-4-5", api_key=KEY, base_url=local_url)
    outcome = observe(CALLS["invoke"], made, Answer())
    assert outcome.error is None
    assert outcome.cost == 0
    assert outcome.unmeasured("no_price") == 1


@pytest.mark.parametrize("way", CALLS)
def test_an_operator_can_give_a_server_of_ones_own_a_price(observe, local_url, tmp_path, way):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"mistral-nemo": {"input_mtok": 0.5, "output_mtok": 1}}))
    made = ChatOpenAI(
        model="mistral-nemo", api_key=KEY, base_url=f"{local_url}/v1", stream_usage=True
    )
    outcome = observe(CALLS[way], made, Answer(), settings=Settings(prices_file=str(path)))
    assert outcome.cost == pytest.approx(Price(0.5, 1).cost(1013, 211), rel=1e-9)
    assert outcome.unmeasured("no_price") == 0


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize(
    ("address", "model", "price"),
    [
        ("https://api.groq.com/openai/v1", "openai/gpt-oss-120b", Price(0.15, 0.6, cached=0.075)),
        ("https://api.deepseek.com/v1", "deepseek-v3.1-terminus", Price(0.27, 0.95, cached=0.13)),
        ("https://api.mistral.ai/v1", "mistral-large-2512", Price(0.5, 1.5)),
    ],
)
def test_another_provider_behind_chat_openai_has_its_own_prices(
    observe, address, model, price, way
):
    made = ChatOpenAI(model=model, api_key=KEY, base_url=address, stream_usage=True)
    outcome = observe(CALLS[way], made, Answer())
    assert outcome.error is None
    (call,) = outcome.calls
    bill = price.cost(call.prompt, call.completion, call.cached)
    assert outcome.cost == pytest.approx(bill, rel=1e-9)


def test_openai_at_its_own_address_has_its_prices(observe):
    outcome = observe(CALLS["invoke"], ChatOpenAI(model="gpt-5.2", api_key=KEY), Answer())
    assert [call.host for call in outcome.calls] == ["api.openai.com"]
    assert outcome.cost == pytest.approx(Price(1.75, 14, cached=0.175).cost(1013, 211, 419))
