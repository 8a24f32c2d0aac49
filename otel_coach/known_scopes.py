"""Other people's instrumentations: the scopes of their spans, and what their keys stand for.

Scopes and keys are those that the packages really use, in the versions of requirements-canary.txt
and requirements-openlit.txt; where a package is not installed there, those of its source or of its
documentation.
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
"""The providers' own packages, which make a span for a call by themselves."""

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
"""Scopes of instrumentations; those below them too."""

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
"""Scopes whose client spans are calls of a provider."""

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
"""What spans of instrumentations may carry."""

_SPACES: Final = (
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
"""Namespaces made for what is said to a model, and of the vendors that show it."""

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
"""What of these namespaces is no content where it is a text; numbers never are."""

_SAID: Final = (
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
"""What was said: by the semantic conventions, old and new, and by each of the packages; the keys
and those below them."""

PEOPLE: Final = frozenset({"enduser.id", "enduser.pseudo.id", "session.id", "user.id"})
"""Whom a span is about, by the names that several instrumentations share."""


@lru_cache(maxsize=1024)
def is_instrumentation(scope: str) -> bool:
    """Whether spans of that scope are those of a known instrumentation."""
    return f"{scope}.".startswith(_INSTRUMENTATIONS)


@lru_cache(maxsize=1024)
def is_provider(scope: str) -> bool:
    """Whether it is the scope of a provider's own package."""
    return f"{scope}.".startswith(_PROVIDERS)


@lru_cache(maxsize=1024)
def calls_a_provider(scope: str) -> bool:
    """Whether spans of that scope are calls of a provider, whoever makes them."""
    return f"{scope}.".startswith(_CLIENTS)


@lru_cache(maxsize=4096)
def is_said(key: str) -> bool:
    """Whether `key`, of an attribute or of an event, is for what was said."""
    return f"{key}.".startswith(_SAID) and key not in _KNOWN_HARMLESS


@lru_cache(maxsize=4096)
def may_tell(key: str) -> bool:
    """Whether a text under `key` may tell what was said, about whom, or where a model is served."""
    return (key.startswith(_SPACES) and key not in _KNOWN_HARMLESS) or is_said(key)
