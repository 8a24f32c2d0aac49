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


def _of(
    path: str,
    provider: str,
    model: str,
    price: Price | None,
    arguments: Mapping[str, Any],
    *,
    name: str = "",
    **known: Any,
) -> Integration:
    """Returns the class at `path`, made with `model` and `arguments`; `known` is what else is."""
    module, _, cls = path.rpartition(".")
    make = _class(path, model=model, **arguments)
    return Integration(name or cls, module.replace("_", "-"), provider, model, make, price, **known)


_WITH_KEY: Final = {"api_key": KEY}
_ONCE: Final = {**_WITH_KEY, "max_retries": 0}

INTEGRATIONS: Final = {
    one.name: one
    for one in (
        _of("langchain_openai.ChatOpenAI", "openai", "gpt-5.2", _OPENAI, _ONCE),
        _of(
            "langchain_openai.ChatOpenAI",
            "openai",
            "gpt-5.2",
            _OPENAI,
            {**_ONCE, "use_responses_api": True},
            name="ChatOpenAI, Responses",
        ),
        _of(
            "langchain_openai.AzureChatOpenAI",
            "azure.ai.openai",
            "gpt-5.2",
            _OPENAI,
            {
                **_ONCE,
                "azure_deployment": "coach",
                "azure_endpoint": "https://coach.openai.azure.com",
                "api_version": "2025-04-01-preview",
            },
        ),
        _of(
            "langchain_anthropic.ChatAnthropic",
            "anthropic",
            "claude-sonnet-4-5",
            _SONNET,
            _WITH_KEY,
        ),
        _of(
            "langchain_google_genai.ChatGoogleGenerativeAI",
            "gcp.gemini",
            "gemini-2.5-flash",
            Price(0.3, 2.5, cached=0.03),
            _WITH_KEY,
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
        _of(
            "langchain_mistralai.ChatMistralAI",
            "mistral_ai",
            "mistral-large-2512",
            Price(0.5, 1.5, cached=0.05),
            {**_WITH_KEY, "max_retries": 1},
        ),
        _of(
            "langchain_groq.ChatGroq",
            "groq",
            "openai/gpt-oss-120b",
            Price(0.15, 0.6, cached=0.075),
            _ONCE,
        ),
        _of(
            "langchain_aws.ChatBedrockConverse",
            "aws.bedrock",
            "amazon.nova-pro-v1:0",
            Price(0.8, 3.2, cached=0.2),
            _AWS,
        ),
        _of(
            "langchain_aws.ChatAnthropicBedrock",
            "aws.bedrock",
            _BEDROCK_SONNET,
            _SONNET_REGIONAL,
            _AWS,
            withholds={"reasoning": frozenset({"stream", "astream", "agent astream"})},
        ),
        _of(
            "langchain_deepseek.ChatDeepSeek",
            "deepseek",
            "deepseek-v3.1-terminus",
            Price(0.27, 0.95, cached=0.13),
            _ONCE,
        ),
        _of(
            "langchain_xai.ChatXAI",
            "x_ai",
            "grok-4-fast-reasoning",
            Price(0.2, 0.5, cached=0.05),
            _ONCE,
        ),
        _of(
            "langchain_cohere.ChatCohere",
            "cohere",
            "command-r-plus-08-2024",
            Price(2.5, 10),
            {"cohere_api_key": KEY},
            withholds={"first_token": frozenset({"agent astream"})},
        ),
        _of(
            "langchain_fireworks.ChatFireworks",
            "fireworks",
            "accounts/fireworks/models/deepseek-v3p2",
            Price(0.56, 1.68, cached=0.28),
            _WITH_KEY,
        ),
        _of(
            "langchain_together.ChatTogether",
            "together",
            "MiniMaxAI/MiniMax-M3",
            Price(0.3, 1.2, cached=0.06),
            _ONCE,
            withholds={"cached": frozenset({"stream", "astream", "agent astream"})},
        ),
        _of("langchain_litellm.ChatLiteLLM", "litellm", "openai/gpt-5.2", _OPENAI, _WITH_KEY),
        _of(
            "langchain_openrouter.ChatOpenRouter",
            "openrouter",
            "openai/gpt-4o-mini",
            Price(0.15, 0.6, cached=0.075),
            _WITH_KEY,
            stated_cost=0.0123,
        ),
        _of(
            "langchain_perplexity.ChatPerplexity",
            "perplexity",
            "sonar",
            Price(1, 1, request=0.012),
            _WITH_KEY,
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
