"""The integration packages, each as its documentation says to use it: a key, and no address."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from tests.support.providers.ways import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY: Final = "key-of-the-tests"
_AWS: Final = {
    "region_name": "us-east-1",
    "aws_access_key_id": "AKIAEXAMPLE",
    "aws_secret_access_key": KEY,
}


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens, written off the provider's page of prices."""

    prompt: float
    completion: float
    cached: float | None = None
    """Of prompt tokens read from a cache; as all others if None."""
    cache_write: float | None = None
    request: float = 0.0
    """US dollars for each call."""

    def cost(self, prompt: int, completion: int, cached: int = 0, cache_write: int = 0) -> float:
        """US dollars for these tokens; those cached and written are among `prompt`."""
        read = self.prompt if self.cached is None else self.cached
        write = self.prompt if self.cache_write is None else self.cache_write
        fresh = prompt - cached - cache_write
        tokens = fresh * self.prompt + cached * read + cache_write * write
        return (tokens + completion * self.completion) / 1_000_000 + self.request


@dataclass(frozen=True)
class Integration:
    """One class of a package, and what is known of the provider it calls by default."""

    name: str
    package: str
    provider: str
    """gen_ai.provider.name."""
    model: str
    """The model that is asked for, which is the label's value."""
    make: Callable[[], Any]
    price: Price | None
    """None if no price is known: the provider is this machine, or the list has none."""
    withholds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What of the provider's answer the package does not hand over to callbacks, by the columns of
    the table, and in which ways of calling."""
    stated_cost: float | None = None
    """US dollars that the provider states for a call, which come before any price."""
    has_tools: bool = True
    needs_address: bool = False
    """It has no default address: `make` takes one."""

    @property
    def title(self) -> str:
        """The name, with the version of the package."""
        return f"{self.name} ({self.package} {version(self.package)})"


def _class(path: str, **arguments: Any) -> Callable[[], Any]:
    module, _, name = path.rpartition(".")
    return lambda: getattr(import_module(module), name)(**arguments)


def _ollama(name: str, model: str) -> Callable[..., Any]:
    def make(address: str) -> Any:
        return getattr(import_module("langchain_ollama"), name)(model=model, base_url=address)

    return make


def _hugging_face() -> Any:
    module = import_module("langchain_huggingface")
    endpoint = module.HuggingFaceEndpoint(
        repo_id="openai/gpt-oss-120b",
        task="conversational",
        provider="together",
        huggingfacehub_api_token=f"hf_{KEY}",
    )
    return module.ChatHuggingFace(llm=endpoint, stream_usage=True)


_OPENAI = Price(1.75, 14, cached=0.175)  # gpt-5.2
_SONNET = Price(3, 15, cached=0.3, cache_write=3.75)  # claude-sonnet-4-5
_SONNET_REGIONAL = Price(3.3, 16.5, cached=0.33, cache_write=4.125)  # the same in one region
_BEDROCK_SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"

INTEGRATIONS: Final = {
    one.name: one
    for one in (
        Integration(
            "ChatOpenAI",
            "langchain-openai",
            "openai",
            "gpt-5.2",
            _class("langchain_openai.ChatOpenAI", model="gpt-5.2", api_key=KEY, max_retries=0),
            _OPENAI,
        ),
        Integration(
            "ChatOpenAI, Responses",
            "langchain-openai",
            "openai",
            "gpt-5.2",
            _class(
                "langchain_openai.ChatOpenAI",
                model="gpt-5.2",
                api_key=KEY,
                max_retries=0,
                use_responses_api=True,
            ),
            _OPENAI,
        ),
        Integration(
            "AzureChatOpenAI",
            "langchain-openai",
            "azure.ai.openai",
            "gpt-5.2",
            _class(
                "langchain_openai.AzureChatOpenAI",
                model="gpt-5.2",
                azure_deployment="coach",
                azure_endpoint="https://coach.openai.azure.com",
                api_version="2025-04-01-preview",
                api_key=KEY,
                max_retries=0,
            ),
            _OPENAI,
        ),
        Integration(
            "ChatAnthropic",
            "langchain-anthropic",
            "anthropic",
            "claude-sonnet-4-5",
            _class("langchain_anthropic.ChatAnthropic", model="claude-sonnet-4-5", api_key=KEY),
            _SONNET,
        ),
        Integration(
            "ChatGoogleGenerativeAI",
            "langchain-google-genai",
            "gcp.gemini",
            "gemini-2.5-flash",
            _class(
                "langchain_google_genai.ChatGoogleGenerativeAI",
                model="gemini-2.5-flash",
                api_key=KEY,
            ),
            Price(0.3, 2.5, cached=0.03),
        ),
        Integration(
            "ChatOllama",
            "langchain-ollama",
            "ollama",
            "deepseek-r1",
            _ollama("ChatOllama", "deepseek-r1"),
            None,
            needs_address=True,
        ),
        Integration(
            "OllamaLLM",
            "langchain-ollama",
            "ollama",
            "mistral-nemo",
            _ollama("OllamaLLM", "mistral-nemo"),
            None,
            needs_address=True,
            has_tools=False,
        ),
        Integration(
            "ChatMistralAI",
            "langchain-mistralai",
            "mistral_ai",
            "mistral-large-2512",
            _class(
                "langchain_mistralai.ChatMistralAI",
                model="mistral-large-2512",
                api_key=KEY,
                max_retries=1,
            ),
            Price(0.5, 1.5, cached=0.05),
        ),
        Integration(
            "ChatGroq",
            "langchain-groq",
            "groq",
            "openai/gpt-oss-120b",
            _class(
                "langchain_groq.ChatGroq", model="openai/gpt-oss-120b", api_key=KEY, max_retries=0
            ),
            Price(0.15, 0.6, cached=0.075),
        ),
        Integration(
            "ChatBedrockConverse",
            "langchain-aws",
            "aws.bedrock",
            "amazon.nova-pro-v1:0",
            _class("langchain_aws.ChatBedrockConverse", model="amazon.nova-pro-v1:0", **_AWS),
            Price(0.8, 3.2, cached=0.2),
        ),
        Integration(
            "ChatAnthropicBedrock",
            "langchain-aws",
            "aws.bedrock",
            _BEDROCK_SONNET,
            _class("langchain_aws.ChatAnthropicBedrock", model=_BEDROCK_SONNET, **_AWS),
            _SONNET_REGIONAL,
        ),
        Integration(
            "ChatDeepSeek",
            "langchain-deepseek",
            "deepseek",
            "deepseek-v3.1-terminus",
            _class(
                "langchain_deepseek.ChatDeepSeek",
                model="deepseek-v3.1-terminus",
                api_key=KEY,
                max_retries=0,
            ),
            Price(0.27, 0.95, cached=0.13),
        ),
        Integration(
            "ChatXAI",
            "langchain-xai",
            "x_ai",
            "grok-4-fast-reasoning",
            _class(
                "langchain_xai.ChatXAI", model="grok-4-fast-reasoning", api_key=KEY, max_retries=0
            ),
            Price(0.2, 0.5, cached=0.05),
        ),
        Integration(
            "ChatCohere",
            "langchain-cohere",
            "cohere",
            "command-r-plus-08-2024",
            _class(
                "langchain_cohere.ChatCohere", model="command-r-plus-08-2024", cohere_api_key=KEY
            ),
            Price(2.5, 10),
            withholds={"first_token": frozenset({"agent astream"})},
        ),
        Integration(
            "ChatFireworks",
            "langchain-fireworks",
            "fireworks",
            "accounts/fireworks/models/deepseek-v3p2",
            _class(
                "langchain_fireworks.ChatFireworks",
                model="accounts/fireworks/models/deepseek-v3p2",
                api_key=KEY,
            ),
            Price(0.56, 1.68, cached=0.28),
        ),
        Integration(
            "ChatTogether",
            "langchain-together",
            "together",
            "MiniMaxAI/MiniMax-M3",
            _class(
                "langchain_together.ChatTogether",
                model="MiniMaxAI/MiniMax-M3",
                api_key=KEY,
                max_retries=0,
            ),
            Price(0.3, 1.2, cached=0.06),
            withholds={"cached": frozenset({"stream", "astream", "agent astream"})},
        ),
        Integration(
            "ChatLiteLLM",
            "langchain-litellm",
            "litellm",
            "openai/gpt-5.2",
            _class("langchain_litellm.ChatLiteLLM", model="openai/gpt-5.2", api_key=KEY),
            _OPENAI,
        ),
        Integration(
            "ChatOpenRouter",
            "langchain-openrouter",
            "openrouter",
            "openai/gpt-4o-mini",
            _class("langchain_openrouter.ChatOpenRouter", model="openai/gpt-4o-mini", api_key=KEY),
            Price(0.15, 0.6, cached=0.075),
            stated_cost=0.0123,
        ),
        Integration(
            "ChatPerplexity",
            "langchain-perplexity",
            "perplexity",
            "sonar",
            _class("langchain_perplexity.ChatPerplexity", model="sonar", api_key=KEY),
            Price(1, 1, request=0.012),
            withholds={
                "cost": frozenset(WAYS),
                "finish": frozenset({"invoke", "ainvoke", "agent"}),
            },
            stated_cost=0.0131,
        ),
        Integration(
            "ChatHuggingFace",
            "langchain-huggingface",
            "huggingface",
            "openai/gpt-oss-120b",
            _hugging_face,
            None,  # the package tells callbacks nothing of the provider that the router was to ask
        ),
    )
}
