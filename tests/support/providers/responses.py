"""OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses."""

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


def responses(ask: Ask, call: Call) -> Reply:
    """Answers at `/v1/responses`."""
    said = call.bill()
    reason = said.finish
    call.finish = reason or "completed"
    if ask.body.get("stream"):
        return Reply(_stream(ask, call, said), SSE)
    return whole(_response(ask, call, said, _items(said)))


def _usage(said: Answer) -> Json:
    return {
        "input_tokens": said.prompt,
        "input_tokens_details": {"cached_tokens": said.cached},
        "output_tokens": said.completion,
        "output_tokens_details": {"reasoning_tokens": said.reasoned},
        "total_tokens": said.prompt + said.completion,
    }


def _response(ask: Ask, call: Call, said: Answer, output: list[Json]) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1760000000,
        "status": "incomplete" if said.finish else "completed",
        "incomplete_details": {"reason": said.finish} if said.finish else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "model": ask.body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "service_tier": said.tier or "default",
        "usage": None if said.usage == "never" else _usage(said),
    }


def _reasoning(said: Answer) -> Json:
    summary = [{"type": "summary_text", "text": said.reasoning}] if said.reasoning else []
    return {"id": "rs_1", "type": "reasoning", "summary": summary}


def _items(said: Answer) -> list[Json]:
    items = [_reasoning(said), *said.extra.get("output", [])]
    if said.tool:
        items.append(
            {
                "id": "fc_1",
                "type": "function_call",
                "status": "completed",
                "call_id": "call_12345",
                "name": said.tool,
                "arguments": '{"city": "Bern"}',
            }
        )
    else:
        text = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        items.append(
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [text],
            }
        )
    return items


def _stream(ask: Ask, call: Call, said: Answer) -> Iterator[bytes | Pause]:
    number = iter(range(1000))

    def event(kind: str, **more: Any) -> bytes:
        return sse({"type": kind, "sequence_number": next(number), **more}, kind)

    opening = {**_response(ask, call, said, []), "status": "in_progress", "usage": None}
    opening["incomplete_details"] = None
    yield event("response.created", response=opening)
    yield event("response.in_progress", response=opening)
    # The reasoning's item opens at once, and has no text for as long as the model thinks.
    empty = {"id": "rs_1", "type": "reasoning", "summary": []}
    yield event("response.output_item.added", output_index=0, item=empty)
    yield FIRST
    if said.reasoning:
        place = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
        part = {"type": "summary_text", "text": ""}
        yield event("response.reasoning_summary_part.added", **place, part=part)
        yield event("response.reasoning_summary_text.delta", **place, delta=said.reasoning)
        yield THEN
        yield event("response.reasoning_summary_text.done", **place, text=said.reasoning)
        done = {"type": "summary_text", "text": said.reasoning}
        yield event("response.reasoning_summary_part.done", **place, part=done)
    yield event("response.output_item.done", output_index=0, item=_reasoning(said))
    items = _items(said)
    for index, item in enumerate(items[1:], 1):
        yield from _item(event, index, item, said)
    final = _response(ask, call, said, items)
    yield event(f"response.{final['status']}", response=final)


def _item(event: Any, index: int, item: Json, said: Answer) -> Iterator[bytes | Pause]:
    place = {"item_id": item["id"], "output_index": index}
    if item["type"] == "function_call":
        opened = {**item, "arguments": "", "status": "in_progress"}
        yield event("response.output_item.added", output_index=index, item=opened)
        yield THEN
        yield event("response.function_call_arguments.delta", **place, delta=item["arguments"])
        yield event("response.function_call_arguments.done", **place, arguments=item["arguments"])
    elif item["type"] == "message":
        opened = {**item, "content": [], "status": "in_progress"}
        yield event("response.output_item.added", output_index=index, item=opened)
        place["content_index"] = 0
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield event("response.content_part.added", **place, part=part)
        for number, word in enumerate(said.words):
            yield event("response.output_text.delta", **place, delta=word, logprobs=[])
            if not number:
                yield CUT if said.cut else THEN
        yield event("response.output_text.done", **place, text=said.text, logprobs=[])
        yield event("response.content_part.done", **place, part={**part, "text": said.text})
    else:
        yield event("response.output_item.added", output_index=index, item=item)
    yield event("response.output_item.done", output_index=index, item=item)
