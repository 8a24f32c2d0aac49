"""A model's name is shown; the address at which one is served is neither a label nor on a span."""

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from otel_coach.metrics.labels import is_model_address, model_text

ADDRESSES = [
    "https://x7q.us-east-1.aws.endpoints.huggingface.cloud",
    "http://10.0.0.7:8080/v1",
    "HTTP://gpu/",
    "grpc://gpu:50051",
    "unix:///run/vllm.sock",
    "//gpu.example.com/v1",
    " https://gpu.example.com",
    "10.0.0.7",
    "10.0.0.7:8080",
    "[::1]:8080",
    "::1",
    "fe80::1",
    "2001:db8:0:0:0:0:0:1",
    "localhost",
    "localhost:11434",
    "localhost:8000/v1",
    "llm.example:8000",
    "llm.corp.example.com:443/v1",
    "vllm:8000/v1",
    "x7q.us-east-1.aws.endpoints.huggingface.cloud",
    "acme.openai.azure.com/openai/deployments/x",
    "api.openai.com",
    "llm.svc.cluster.local",
]
NAMES = [
    "gpt-3.5-turbo",
    "gpt-4o-2024-08-06",
    "o1",
    "ft:gpt-3.5-turbo:org::id",
    "ft:gpt-4o-mini-2024-07-18:acme::9AbCdEfG",
    "anthropic.claude-v2:1",
    "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    "amazon.nova-pro-v1:0:300k",
    "amazon.titan-text-express-v1",
    "us.deepseek.r1-v1:0",
    "ai21.j2-ultra-v1",
    "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2",
    "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc123",
    "/models/llama",
    "./models/llama-3.gguf",
    r"C:\models\llama",
    "accounts/fireworks/models/llama-v3p1-405b-instruct",
    "publishers/google/models/gemini-1.5-pro",
    "projects/p/locations/us/endpoints/123",
    "models/gemini-1.5-pro",
    "org/model:tag",
    "meta-llama/Llama-3.3-70B-Instruct:free",
    "deepseek-ai/DeepSeek-V3.1",
    "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
    "@cf/meta/llama-3-8b-instruct",
    "claude-3-5-sonnet@20240620",
    "llama3.2:70b",
    "llama2:13",
    "qwen2.5:0.5b",
    "azure/my.deployment",
    "none",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_models_name(address):
    assert is_model_address(address)
    assert model_text(address) == "other"


@pytest.mark.parametrize("name", NAMES)
def test_a_models_name_stays_as_it_is(name):
    assert not is_model_address(name)
    assert model_text(name) == name


class Served(FakeListChatModel):
    """Answers as Hugging Face's models do: the answer's model is the endpoint."""

    endpoint: str

    def _generate(self, *args, **kwargs):
        metadata = {"model_name": self.endpoint}
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage("hi", response_metadata=metadata))]
        )


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_endpoints_address_is_on_no_page_and_in_no_span(measured, address):
    Served(endpoint=address, responses=["hi"]).invoke(
        "hi", {"metadata": {"ls_model_name": address}}
    )
    (span,) = measured.spans
    assert span.name == "chat other"
    assert span.attributes["gen_ai.request.model"] == "other"
    assert span.attributes["gen_ai.response.model"] == "other"
    page = measured.page()
    assert page.sum("agent_llm_requests_total", model="other", status="ok") == 1
    assert page.sum("otel_coach_label_overflow_total", error_type="model") == 0


def test_instruments_of_others_do_not_show_it_either(measured):
    counter = measured.installation.providers.meter_provider.get_meter("app").create_counter(
        "asked"
    )
    counter.add(1, {"model": "https://gpu.example.com"})
    counter.add(1, {"model": "gpt-4o"})
    page = measured.page()
    assert page.sum("asked_total", model="other") == 1
    assert page.sum("asked_total", model="gpt-4o") == 1
