"""Ways of calling a model by the openai and anthropic packages themselves, for tests and oracle.

Each takes a client, the prompt and the end user's id, which the provider's ledger records. With an
asynchronous client it returns something to await.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import openai

if TYPE_CHECKING:
    from collections.abc import Callable

OPENAI_MODEL: Final = "gpt-4o-mini"
ANTHROPIC_MODEL: Final = "claude-3-5-haiku-latest"
_WITH_USAGE: Final = {"include_usage": True}
Ask = dict[str, Any]


def chat(text: str, user: str) -> Ask:
    """Arguments of the Chat Completions API."""
    return {
        "model": OPENAI_MODEL,
        "messages": [{"role": "user", "content": text}],
        "user": user,
    }


def chat_stream(text: str, user: str) -> Ask:
    """Arguments that also ask for a stream with usage."""
    # The oldest versions of the package do not know `stream_options`.
    return chat(text, user) | {"stream": True, "extra_body": {"stream_options": _WITH_USAGE}}


def response(text: str, user: str) -> Ask:
    """Arguments of the Responses API."""
    return {"model": OPENAI_MODEL, "input": text, "user": user}


def message(text: str, user: str) -> Ask:
    """Arguments of Anthropic's Messages API."""
    return {
        "model": ANTHROPIC_MODEL,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": text}],
        "metadata": {"user_id": user},
    }


def _way(method: str, arguments: Callable[[str, str], Ask], **more: Any) -> Callable[..., Any]:
    def call(client: Any, text: str, user: str) -> Any:
        return attrgetter(method)(client)(**arguments(text, user) | more)

    call.method = method  # type: ignore[attr-defined]
    return call


WHOLE: Final = {
    "chat": _way("chat.completions.create", chat),
    "chat_parse": _way("chat.completions.parse", chat),
    "chat_raw": _way("chat.completions.with_raw_response.create", chat),
    "chat_beta_parse": _way("beta.chat.completions.parse", chat),
    "responses": _way("responses.create", response),
    "responses_parse": _way("responses.parse", response),
    "responses_raw": _way("responses.with_raw_response.create", response),
    "messages": _way("messages.create", message),
    "messages_raw": _way("messages.with_raw_response.create", message),
    "messages_beta": _way("beta.messages.create", message),
    "messages_parse": _way("messages.parse", message),
}
"""The answer is one document."""
STREAMS: Final = {
    "chat_stream": _way("chat.completions.create", chat_stream),
    "responses_stream": _way("responses.create", response, stream=True),
    "messages_stream": _way("messages.create", message, stream=True),
    "messages_beta_stream": _way("beta.messages.create", message, stream=True),
}
"""The answer is a stream of chunks."""
RAW_STREAMS: Final = {
    "chat_raw_stream": _way("chat.completions.with_raw_response.create", chat_stream),
    "responses_raw_stream": _way("responses.with_raw_response.create", response, stream=True),
    "messages_raw_stream": _way("messages.with_raw_response.create", message, stream=True),
}
"""The answer is a raw response whose `parse` returns a stream."""
RESPONSES: Final = {
    "chat_response": _way("chat.completions.with_streaming_response.create", chat),
    "responses_response": _way("responses.with_streaming_response.create", response),
    "messages_response": _way("messages.with_streaming_response.create", message),
}
"""The answer is a context manager of a raw response, whose body is read in it."""
LINES: Final = {
    "chat_lines": _way("chat.completions.with_streaming_response.create", chat_stream),
    "responses_lines": _way("responses.with_streaming_response.create", response, stream=True),
    "messages_lines": _way("messages.with_streaming_response.create", message, stream=True),
}
"""The same, with a stream of server-sent events in it."""
HELPERS: Final = {
    "chat_helper": _way("chat.completions.stream", chat, stream_options=_WITH_USAGE),
    "chat_beta_helper": _way("beta.chat.completions.stream", chat, stream_options=_WITH_USAGE),
    "responses_helper": _way("responses.stream", response),
    "messages_helper": _way("messages.stream", message),
    "messages_beta_helper": _way("beta.messages.stream", message),
}
"""The answer is a context manager of a helper for streams."""


def package_of(name: str) -> str:
    """The package that has the way."""
    return "anthropic" if name.startswith("messages") else "openai"


def has(client: Any, way: Any) -> bool:
    """Whether this version of the package has the method."""
    try:
        return callable(attrgetter(way.method)(client))
    except AttributeError:
        return False


def http_library() -> Any:
    """The HTTP library of the openai package, which has another name in other versions."""
    client = openai.OpenAI(api_key="k")
    module = type(client._client).__mro__[-2].__module__
    return sys.modules[module.partition(".")[0]]
