"""Which double answers at which provider's address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.support.providers import cohere, gemini, ollama
from tests.support.providers.chat_completions import (
    DEEPSEEK,
    FIREWORKS,
    GROQ,
    HUGGING_FACE,
    MISTRAL,
    OPENAI,
    OPENROUTER,
    PERPLEXITY,
    TOGETHER,
    XAI,
    chat_completions,
    text_completions,
)
from tests.support.providers.converse import converse
from tests.support.providers.double import Ask, Call, Reply, Route, whole
from tests.support.providers.messages import bedrock_messages, messages
from tests.support.providers.responses import responses

if TYPE_CHECKING:
    from collections.abc import Callable

LOCAL: Final = "127.0.0.1"
_CHAT: Final = r".*/chat/completions"


def _hub_model(ask: Ask, call: Call) -> Reply:
    """Which providers have a model: https://huggingface.co/docs/inference-providers/hub-api."""
    model = ask.path.removeprefix("/api/models/")
    task = "conversational" if model.startswith("openai/") else "text-generation"
    mapping = {
        name: {"status": "live", "providerId": model, "task": task} for name in ("groq", "together")
    }
    return whole(
        {
            "id": model,
            "modelId": model,
            "pipeline_tag": "text-generation",
            "tags": ["conversational"],
            "inference": "warm",
            "inferenceProviderMapping": mapping,
        }
    )


_BY_HOST: Final[dict[str, list[tuple[str, Callable[[Ask, Call], Reply]]]]] = {
    "api.openai.com": [
        (_CHAT, chat_completions(OPENAI)),
        (r".*/completions", text_completions),
        (r".*/responses", responses),
    ],
    "coach.openai.azure.com": [
        (_CHAT, chat_completions(OPENAI)),
        (r".*/responses", responses),
    ],
    "api.anthropic.com": [(r"/v1/messages", messages)],
    "generativelanguage.googleapis.com": [(r".*enerateContent", gemini.generate_content)],
    "api.mistral.ai": [(_CHAT, chat_completions(MISTRAL))],
    "api.groq.com": [(_CHAT, chat_completions(GROQ))],
    "bedrock-runtime.us-east-1.amazonaws.com": [
        (r"/model/[^/]+/converse(-stream)?", converse),
        (r"/model/[^/]+/invoke(-with-response-stream)?", bedrock_messages),
    ],
    "bedrock-mantle.us-east-1.api.aws": [
        (r"/anthropic/v1/messages", messages),
        (_CHAT, chat_completions(OPENAI)),
        (r".*/responses", responses),
    ],
    "api.deepseek.com": [(_CHAT, chat_completions(DEEPSEEK))],
    "api.x.ai": [(_CHAT, chat_completions(XAI)), (r".*/responses", responses)],
    "api.cohere.com": [(r"/v2/chat", cohere.chat)],
    "api.fireworks.ai": [(_CHAT, chat_completions(FIREWORKS))],
    "api.together.xyz": [(_CHAT, chat_completions(TOGETHER))],
    "openrouter.ai": [(_CHAT, chat_completions(OPENROUTER))],
    "api.perplexity.ai": [(_CHAT, chat_completions(PERPLEXITY))],
    "router.huggingface.co": [
        (_CHAT, chat_completions(HUGGING_FACE)),
        (r".*/completions", text_completions),
    ],
    "huggingface.co": [(r"/api/models/.*", _hub_model)],
    # Servers of one's own, by plain HTTP.
    LOCAL: [
        (r"/api/chat", ollama.chat),
        (r"/api/generate", ollama.generate),
        (r"/v1/messages", messages),
        (_CHAT, chat_completions(OPENAI)),
    ],
}

HOSTS: Final = [host for host in _BY_HOST if host != LOCAL]

ROUTES: Final[list[Route]] = [
    (re.escape(host), path, answer) for host, pairs in _BY_HOST.items() for path, answer in pairs
]
