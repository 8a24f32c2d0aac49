"""Other packages' instrumentations: the scopes of their spans, and what their attributes hold.

The scopes and keys are those that the packages use in the versions of requirements-canary.txt and
requirements-openlit.txt. For a package that is not listed there, they are taken from its source or
its documentation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_PROVIDERS: Final = (
    "azure.ai.",
    "com.anthropic.sdk.",
    "google.genai.",
    "google_genai.",
    "mistralai.",
    "mistralai_sdk_tracer.",
    "openai.",
)
"""Scopes of the providers' own packages, which make a span for each call themselves."""

_INSTRUMENTATIONS: Final = (
    *_PROVIDERS,
    "agent_framework.",
    "agentops.",
    "autogen.",
    "autogen-core.",
    "azure.",
    "braintrust.",
    "com.anthropic.",
    "crewai.",
    "fastapi.",  # FastAPI's built-in telemetry
    "gcp.vertex.agent.",  # Google's Agent Development Kit
    "haystack.",
    "langfuse.",
    "langfuse-sdk.",
    "langsmith.",
    "langtrace-python-sdk.",
    "langtrace_python_sdk.",
    "litellm.",
    "logfire.",
    "mcp-python-sdk.",
    "mlflow.",
    "openinference.",
    "openlit.",
    "opentelemetry.instrumentation.",
    "opentelemetry.util.genai.",
    "opik.",
    "phoenix.",
    "promptflow.",
    "pydantic-ai.",
    "pydantic_ai.",
    "semantic_kernel.",
    "strands.",
    "traceloop.",
    "weave.",
)
"""Scopes of instrumentations, as prefixes: the scopes below them are included."""

_CLIENTS: Final = (
    *_PROVIDERS,
    *(
        f"{family}.instrumentation.{client}"
        for family in ("opentelemetry", "openinference")
        for client in (
            "alephalpha",
            "anthropic",
            "bedrock",
            "cohere",
            "google_gen",  # google_genai, google_generativeai
            "groq",
            "huggingface",
            "mistralai",
            "ollama",
            "openai.",
            "openai_v2.",
            "replicate",
            "sagemaker",
            "together",
            "vertexai",
            "voyageai",
            "watsonx",
            "writer",
        )
    ),
    *(f"openlit.instrumentation.{client}." for client in ("anthropic", "mistral", "openai")),
)
"""Scopes whose client spans are calls to a provider, as prefixes."""

ALLOWED_ATTRIBUTES: Final = frozenset(
    {
        "db.operation",
        "db.operation.name",
        "db.system",
        "db.system.name",
        "error.type",
        "exception.escaped",
        "exception.type",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "http.method",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "http.status_code",
        "messaging.operation.name",
        "messaging.system",
        "network.protocol.name",
        "network.protocol.version",
        "otel_coach.outcome",
        "rpc.method",
        "rpc.service",
        "rpc.system",
        "url.scheme",
    }
)
"""The attributes that spans of other instrumentations may be exported with."""

_CONTENT_NAMESPACES: Final = (
    "gen_ai.",
    "langfuse.",
    "langsmith.",
    "llm.",
    "logfire.",
    "mlflow.",
    "openlit.",
    "pydantic_ai.",
    "traceloop.",
)
"""Namespaces of attributes that may be content: those for models, and those of vendors whose
products display prompts and answers."""

_KNOWN_HARMLESS: Final = frozenset(
    {
        "gen_ai.agent.id",
        "gen_ai.agent.name",
        "gen_ai.conversation.compacted",
        "gen_ai.data_source.id",
        "gen_ai.evaluation.name",
        "gen_ai.operation.name",
        "gen_ai.output.type",
        "gen_ai.prompt.name",
        "gen_ai.provider.name",
        "gen_ai.request.encoding_formats",
        "gen_ai.request.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.id",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.token.type",
        "gen_ai.tool.call.id",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "gen_ai.workflow.name",
        "llm.model_name",
        "llm.provider",
        "llm.request.type",
        "llm.system",
        "traceloop.span.kind",
    }
)
"""Keys in these namespaces whose texts are not content. Numbers are never content."""

_CONTENT_KEYS: Final = (
    "all_messages_events.",
    "completion.text.",
    "document.content.",
    "embedding.embeddings.",
    "embedding.text.",
    "events.",
    "final_result.",
    "gen_ai.assistant.message.",
    "gen_ai.choice.",
    "gen_ai.completion.",
    "gen_ai.content.",
    "gen_ai.event.content.",
    "gen_ai.input.",
    "gen_ai.output.messages.",
    "gen_ai.prompt.",
    "gen_ai.retrieval.documents.",
    "gen_ai.retrieval.query.",
    "gen_ai.system.message.",
    "gen_ai.system_instructions.",
    "gen_ai.tool.",
    "gen_ai.user.message.",
    "input.documents.",
    "input.images.",
    "input.value.",
    "langfuse.observation.input.",
    "langfuse.observation.output.",
    "langfuse.trace.input.",
    "langfuse.trace.output.",
    "llm.choices.",
    "llm.completions.",
    "llm.function_call.",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompt_template.",
    "llm.prompts.",
    "llm.tools.",
    "message.content.",
    "message_content.",
    "mlflow.spanInputs.",
    "mlflow.spanOutputs.",
    "output.documents.",
    "output.images.",
    "output.value.",
    "prompt.text.",
    "pydantic_ai.all_messages.",
    "request_data.",
    "reranker.",
    "response_data.",
    "retrieval.documents.",
    "retrieval.query.",
    "tool.parameters.",
    "tool_arguments.",
    "tool_call.function.arguments.",
    "tool_response.",
    "traceloop.entity.input.",
    "traceloop.entity.output.",
)
"""Keys for content (what users, models and tools said), as prefixes: the keys below them are
included. They come from the semantic conventions, old and new, and from the packages above."""

PEOPLE: Final = frozenset({"enduser.id", "enduser.pseudo.id", "session.id", "user.id"})
"""Keys that identify a person, under the names that several instrumentations share."""


@lru_cache(maxsize=1024)
def is_instrumentation(scope: str) -> bool:
    """Whether `scope` is that of a known instrumentation."""
    return f"{scope}.".startswith(_INSTRUMENTATIONS)


@lru_cache(maxsize=1024)
def is_provider(scope: str) -> bool:
    """Whether `scope` is that of a provider's own package."""
    return f"{scope}.".startswith(_PROVIDERS)


@lru_cache(maxsize=1024)
def calls_a_provider(scope: str) -> bool:
    """Whether client spans of `scope`, a provider's package or one around it, call a provider."""
    return f"{scope}.".startswith(_CLIENTS)


@lru_cache(maxsize=4096)
def is_content(key: str) -> bool:
    """Whether `key`, an attribute's key or an event's name, stands for content."""
    return f"{key}.".startswith(_CONTENT_KEYS) and key not in _KNOWN_HARMLESS


@lru_cache(maxsize=4096)
def may_reveal(key: str) -> bool:
    """Whether a text under `key` may reveal content, or where a model is served.

    Such keys are those of namespaces for models; the keys in `PEOPLE` are not among them.
    """
    return (key.startswith(_CONTENT_NAMESPACES) and key not in _KNOWN_HARMLESS) or is_content(key)
