"""OpenAI's Chat Completions API, and what the providers that copied it do differently.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.providers.double import (
    CUT,
    FIRST,
    SSE,
    THEN,
    Answer,
    Ask,
    Call,
    Pause,
    Reply,
    sse,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Usage = dict[str, Any]


def openai_usage(said: Answer) -> Usage:
    """OpenAI's and most others' usage block."""
    details: Usage = {"cached_tokens": said.cached, "audio_tokens": 0}
    if said.cache_write:
        details["cache_write_tokens"] = said.cache_write
    return {
        "prompt_tokens": said.prompt,
        "completion_tokens": said.completion,
        "total_tokens": said.prompt + said.completion,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": said.reasoned,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def plain_usage(said: Answer) -> Usage:
    """The usage block of APIs that say nothing of caches and reasoning."""
    return {
        "prompt_tokens": said.prompt,
        "completion_tokens": said.completion,
        "total_tokens": said.prompt + said.completion,
    }


def groq_usage(said: Answer) -> Usage:
    """https://console.groq.com/docs/prompt-caching, https://console.groq.com/docs/reasoning."""
    return {
        **plain_usage(said),
        "queue_time": 0.01,
        "prompt_time": 0.02,
        "completion_time": 0.2,
        "total_time": 0.22,
        "prompt_tokens_details": {"cached_tokens": said.cached},
        "completion_tokens_details": {"reasoning_tokens": said.reasoned},
    }


def deepseek_usage(said: Answer) -> Usage:
    """https://api-docs.deepseek.com/api/create-chat-completion."""
    return {
        **plain_usage(said),
        "prompt_cache_hit_tokens": said.cached,
        "prompt_cache_miss_tokens": said.prompt - said.cached,
        "prompt_tokens_details": {"cached_tokens": said.cached},
        "completion_tokens_details": {"reasoning_tokens": said.reasoned},
    }


def xai_usage(said: Answer) -> Usage:
    """https://docs.x.ai/docs/guides/reasoning: completion_tokens leave out the reasoning."""
    return {
        "prompt_tokens": said.prompt,
        "completion_tokens": said.completion - said.reasoned,
        "total_tokens": said.prompt + said.completion,
        "prompt_tokens_details": {
            "text_tokens": said.prompt,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": said.cached,
        },
        "completion_tokens_details": {
            "reasoning_tokens": said.reasoned,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "num_sources_used": 0,
    }


def cached_usage(said: Answer) -> Usage:
    """https://docs.together.ai/reference/chat-completions."""
    return {**plain_usage(said), "cached_tokens": said.cached}


def fireworks_usage(said: Answer) -> Usage:
    """https://docs.fireworks.ai/api-reference/post-chatcompletions."""
    return {**plain_usage(said), "prompt_tokens_details": {"cached_tokens": said.cached}}


def openrouter_usage(said: Answer) -> Usage:
    """https://openrouter.ai/docs/use-cases/usage-accounting."""
    cost = {} if said.cost is None else {"cost": said.cost, "is_byok": False}
    return {**openai_usage(said), **cost}


def perplexity_usage(said: Answer) -> Usage:
    """https://docs.perplexity.ai/api-reference/chat-completions-post."""
    cost = {} if said.cost is None else {"cost": {"total_cost": said.cost}}
    reasoning = {"reasoning_tokens": said.reasoned} if said.reasoned else {}
    return {**plain_usage(said), "search_context_size": "low", **reasoning, **cost}


@dataclass(frozen=True)
class Dialect:
    """How a provider's Chat Completions API differs from OpenAI's."""

    usage: Callable[[Answer], Usage] = openai_usage
    cached: bool = True
    reasoning: bool = True
    usage_chunk: str = "alone"
    """Where a stream has its usage. alone: in a chunk without choices, if asked for; last: in the
    chunk with the finish reason; x_groq: there too, and in Groq's own block; each: in each."""
    reasoning_key: str = "reasoning_content"


OPENAI = Dialect()
GROQ = Dialect(groq_usage, usage_chunk="x_groq", reasoning_key="reasoning")
DEEPSEEK = Dialect(deepseek_usage, usage_chunk="last")
XAI = Dialect(xai_usage)
MISTRAL = Dialect(plain_usage, cached=False, reasoning=False, usage_chunk="last")
TOGETHER = Dialect(cached_usage, reasoning=False, usage_chunk="last")
FIREWORKS = Dialect(fireworks_usage, reasoning=False)
OPENROUTER = Dialect(openrouter_usage, reasoning_key="reasoning")
PERPLEXITY = Dialect(perplexity_usage, cached=False, reasoning=False, usage_chunk="each")
HUGGING_FACE = Dialect(plain_usage, cached=False, reasoning=False)


def chat_completions(dialect: Dialect = OPENAI) -> Callable[[Ask, Call], Reply]:
    """Returns what answers at `/chat/completions`."""

    def answer(ask: Ask, call: Call) -> Reply:
        said = call.bill(cached=dialect.cached, reasoning=dialect.reasoning, writes=True)
        call.finish = said.finish or ("tool_calls" if said.tool else "stop")
        if said.usage == "zero":
            call.has_usage = False
        if ask.body.get("stream"):
            return Reply(_stream(ask, call, said, dialect), SSE)
        return whole(_completion(ask, call, said, dialect))

    return answer


def _block(said: Answer, dialect: Dialect) -> Usage:
    if said.usage == "zero":
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    extra = said.extra.get("usage", {})
    return {**dialect.usage(said), **extra}


def _head(ask: Ask, call: Call, said: Answer, kind: str) -> dict[str, Any]:
    head = {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1760000000,
        "model": ask.body.get("model", "unnamed"),
        "system_fingerprint": "fp_1",
        **said.extra.get("top", {}),
    }
    if said.tier:
        head["service_tier"] = said.tier
    return head


def tool_call(said: Answer) -> dict[str, Any]:
    """A call of the tool `said.tool`, as Chat Completions have it."""
    function = {"name": said.tool, "arguments": '{"city": "Bern"}'}
    return {"id": "call_12345", "type": "function", "function": function}


def _completion(ask: Ask, call: Call, said: Answer, dialect: Dialect) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.tool:
        message = {"role": "assistant", "content": "", "tool_calls": [tool_call(said)]}
    if said.reasoning:
        message[dialect.reasoning_key] = said.reasoning
    message.update(said.extra.get("message", {}))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": call.finish}
    usage = {} if said.usage == "never" else {"usage": _block(said, dialect)}
    return {**_head(ask, call, said, "chat.completion"), "choices": [choice], **usage}


def _deltas(said: Answer, dialect: Dialect) -> Iterator[dict[str, Any] | Pause]:
    yield {"role": "assistant", "content": ""}
    yield FIRST
    if said.reasoning:
        yield {dialect.reasoning_key: said.reasoning}
        yield THEN
    if said.tool:
        call = tool_call(said)
        arguments = call["function"].pop("arguments")
        yield {
            "tool_calls": [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}]
        }
        yield THEN
        yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}
        return
    first, *rest = said.words
    yield {"content": first}
    if said.cut:
        yield CUT
    yield THEN
    for word in rest:
        yield {"content": word}


def _stream(ask: Ask, call: Call, said: Answer, dialect: Dialect) -> Iterator[bytes | Pause]:
    head = _head(ask, call, said, "chat.completion.chunk")
    usage = None if said.usage == "never" else _block(said, dialect)
    in_each = usage is not None and (said.usage == "running" or dialect.usage_chunk == "each")
    total = said.completion
    so_far = 0

    def chunk(delta: dict[str, Any], finish: str | None, more: dict[str, Any]) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**head, "choices": [choice], **more})

    for delta in _deltas(said, dialect):
        if isinstance(delta, Pause):
            yield delta
            continue
        more: dict[str, Any] = {}
        if in_each and usage is not None:
            so_far = min(total - 1, so_far + 50)
            running = {"completion_tokens": so_far, "total_tokens": said.prompt + so_far}
            more = {"usage": {**usage, **running, "completion_tokens_details": {}}}
        yield chunk(delta, None, more)
    last: dict[str, Any] = {}
    if usage is not None and (in_each or dialect.usage_chunk == "last"):
        last = {"usage": usage}
    elif usage is not None and dialect.usage_chunk == "x_groq":
        last = {"x_groq": {"id": "req_1", "usage": usage}, "usage": usage}
    yield chunk({}, call.finish, last)
    asked = (ask.body.get("stream_options") or {}).get("include_usage")
    if dialect.usage_chunk == "alone" and not in_each:
        if usage is not None and asked:
            yield sse({**head, "choices": [], "usage": usage})
        else:
            call.has_usage = False
    yield sse("[DONE]")


def text_completions(ask: Ask, call: Call) -> Reply:
    """OpenAI's Completions API: several prompts in one call, and one usage for all of them.

    https://platform.openai.com/docs/api-reference/completions
    """
    said = call.bill(cached=False, reasoning=False, writes=False)
    call.finish = said.finish or "stop"
    prompts = ask.body["prompt"] if isinstance(ask.body["prompt"], list) else [ask.body["prompt"]]
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1760000000}
    head["model"] = ask.body["model"]
    if ask.body.get("stream"):
        return Reply(_text_stream(ask, call, said, head), SSE)
    choices = [
        {"text": said.text, "index": place, "logprobs": None, "finish_reason": call.finish}
        for place, _ in enumerate(prompts)
    ]
    return whole({**head, "choices": choices, "usage": plain_usage(said)})


def _text_stream(
    ask: Ask, call: Call, said: Answer, head: dict[str, Any]
) -> Iterator[bytes | Pause]:
    def chunk(text: str, finish: str | None) -> bytes:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return sse({**head, "choices": [choice]})

    yield chunk("", None)
    yield FIRST
    first, *rest = said.words
    yield chunk(first, None)
    yield THEN
    for word in rest:
        yield chunk(word, None)
    yield chunk("", call.finish)
    if (ask.body.get("stream_options") or {}).get("include_usage"):
        yield sse({**head, "choices": [], "usage": plain_usage(said)})
    else:
        call.has_usage = False
    yield sse("[DONE]")
