"""Anthropic's Messages API, as Anthropic and as Amazon Bedrock serve it.

https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

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
from tests.support.providers.event_stream import EVENT_STREAM, event_message

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]


def messages(ask: Ask, call: Call) -> Reply:
    """Answers at `/v1/messages`."""
    said = _billed(call)
    if ask.body.get("stream"):
        return Reply((_as_sse(part) for part in _events(ask, call, said)), SSE)
    return whole(_message(ask, call, said))


def bedrock_messages(ask: Ask, call: Call) -> Reply:
    """Answers at Bedrock's `/model/{id}/invoke` and `/invoke-with-response-stream`."""
    call.model = unquote(ask.path.split("/")[2])
    said = _billed(call)
    if ask.path.endswith("stream"):
        return Reply((_as_bedrock(part) for part in _events(ask, call, said)), EVENT_STREAM)
    return whole(_message(ask, call, said))


def _billed(call: Call) -> Answer:
    said = call.bill()
    call.finish = said.finish or ("tool_use" if said.tool else "end_turn")
    return said


def _as_sse(part: Json | Pause) -> bytes | Pause:
    return part if isinstance(part, Pause) else sse(part, part["type"])


def _as_bedrock(part: Json | Pause) -> bytes | Pause:
    if isinstance(part, Pause):
        return part
    encoded = base64.b64encode(json.dumps(part).encode()).decode()
    return event_message("chunk", {"bytes": encoded})


def _usage(said: Answer) -> Json:
    # input_tokens are what was neither read from the cache nor written to it.
    return {
        "input_tokens": said.prompt - said.cached - said.cache_write,
        "cache_creation_input_tokens": said.cache_write,
        "cache_read_input_tokens": said.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": said.cache_write,
            "ephemeral_1h_input_tokens": 0,
        },
        "service_tier": said.tier or "standard",
        **said.extra.get("usage", {}),
    }


def _said(said: Answer) -> Json:
    # Older models leave the details out.
    details = {"output_tokens_details": {"thinking_tokens": said.reasoned}} if said.reasoned else {}
    return {"output_tokens": said.completion, **details}


def _tool_use(said: Answer) -> Json:
    return {"type": "tool_use", "id": "toolu_1", "name": said.tool, "input": {"city": "Bern"}}


def _message(ask: Ask, call: Call, said: Answer) -> Json:
    content = [{"type": "text", "text": said.text}] if not said.tool else [_tool_use(said)]
    if said.reasoning:
        content.insert(0, {"type": "thinking", "thinking": said.reasoning, "signature": "c2ln"})
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": content,
        "stop_reason": call.finish,
        "stop_sequence": None,
        "usage": {**_usage(said), **_said(said)},
    }


def _events(ask: Ask, call: Call, said: Answer) -> Iterator[Json | Pause]:
    opening = {**_message(ask, call, said), "content": [], "stop_reason": None}
    opening["usage"] = {**_usage(said), "output_tokens": 1}
    yield {"type": "message_start", "message": opening}
    index = 0
    if said.reasoning:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield {"type": "content_block_start", "index": 0, "content_block": block}
        yield {"type": "ping"}
        yield FIRST
        delta = {"type": "thinking_delta", "thinking": said.reasoning}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
        delta = {"type": "signature_delta", "signature": "c2ln"}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        index = 1
    elif not said.tool:
        block = {"type": "text", "text": ""}
        yield {"type": "content_block_start", "index": 0, "content_block": block}
        yield {"type": "ping"}
        yield FIRST
    else:
        yield FIRST
    if said.tool:
        block = {**_tool_use(said), "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield THEN
        delta = {"type": "input_json_delta", "partial_json": '{"city": "Bern"}'}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    else:
        if said.reasoning:
            block = {"type": "text", "text": ""}
            yield {"type": "content_block_start", "index": index, "content_block": block}
        for number, word in enumerate(said.words):
            delta = {"type": "text_delta", "text": word}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
            if not number:
                yield CUT if said.cut else THEN
    yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": call.finish, "stop_sequence": None}
    # The totals so far, which repeat the input's: https://docs.anthropic.com/en/api/messages-streaming
    usage = {**_usage(said), **_said(said)}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}
