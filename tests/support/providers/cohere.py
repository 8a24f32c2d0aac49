"""Cohere's Chat API, version 2: https://docs.cohere.com/reference/chat-stream."""

from __future__ import annotations

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
    from collections.abc import Iterator

Json = dict[str, Any]


def chat(ask: Ask, call: Call) -> Reply:
    """Answers at `/v2/chat`."""
    said = call.bill(cached=False, reasoning=False, writes=False)
    call.finish = said.finish or ("TOOL_CALL" if said.tool else "COMPLETE")
    if ask.body.get("stream"):
        return Reply(_stream(call, said), SSE)
    message: Json = {"role": "assistant", "content": [{"type": "text", "text": said.text}]}
    if said.tool:
        message = {"role": "assistant", "tool_plan": "I ask.", "tool_calls": [_call(said)]}
    return whole(
        {
            "id": "1",
            "finish_reason": call.finish,
            "message": message,
            "usage": _usage(said),
        }
    )


def _call(said: Answer) -> Json:
    function = {"name": said.tool, "arguments": '{"city": "Bern"}'}
    return {"id": "call_12345", "type": "function", "function": function}


def _usage(said: Answer) -> Json:
    counts = {"input_tokens": float(said.prompt), "output_tokens": float(said.completion)}
    return {"billed_units": counts, "tokens": said.extra.get("tokens", counts)}


def _stream(call: Call, said: Answer) -> Iterator[bytes | Pause]:
    def event(kind: str, **more: Any) -> bytes:
        return sse({"type": kind, **more}, kind)

    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield event("message-start", id="1", delta={"message": start})
    if said.tool:
        yield FIRST
        call_start = _call(said)
        arguments = call_start["function"].pop("arguments")
        call_start["function"]["arguments"] = ""
        delta = {"message": {"tool_calls": call_start}}
        yield event("tool-call-start", index=0, delta=delta)
        yield THEN
        delta = {"message": {"tool_calls": {"function": {"arguments": arguments}}}}
        yield event("tool-call-delta", index=0, delta=delta)
        yield event("tool-call-end", index=0)
    else:
        content = {"message": {"content": {"type": "text", "text": ""}}}
        yield event("content-start", index=0, delta=content)
        yield FIRST
        for number, word in enumerate(said.words):
            yield event("content-delta", index=0, delta={"message": {"content": {"text": word}}})
            if not number:
                yield CUT if said.cut else THEN
        yield event("content-end", index=0)
    yield event("message-end", delta={"finish_reason": call.finish, "usage": _usage(said)})
