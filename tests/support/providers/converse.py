"""Amazon Bedrock's Converse API.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.support.providers.double import CUT, FIRST, THEN, Answer, Ask, Call, Pause, Reply, whole
from tests.support.providers.event_stream import EVENT_STREAM, event_message

if TYPE_CHECKING:
    from collections.abc import Iterator


def converse(ask: Ask, call: Call) -> Reply:
    """Answers at `/model/{id}/converse` and `/converse-stream`."""
    said = call.bill(reasoning=False)
    call.model = unquote(ask.path.split("/")[2])
    call.finish = said.finish or ("tool_use" if said.tool else "end_turn")
    if ask.path.endswith("stream"):
        return Reply(_stream(call, said), EVENT_STREAM)
    content: list[dict[str, Any]] = [{"text": said.text}]
    if said.tool:
        use = {"toolUseId": "tooluse_1", "name": said.tool, "input": {"city": "Bern"}}
        content = [{"toolUse": use}]
    if said.reasoning:
        text = {"text": said.reasoning, "signature": "c2ln"}
        content.insert(0, {"reasoningContent": {"reasoningText": text}})
    return whole(
        {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": call.finish,
            "usage": _usage(said),
            "metrics": {"latencyMs": 10},
        }
    )


def _usage(said: Answer) -> dict[str, Any]:
    return {
        "inputTokens": said.prompt - said.cached - said.cache_write,
        "outputTokens": said.completion,
        "totalTokens": said.prompt + said.completion,
        "cacheReadInputTokens": said.cached,
        "cacheWriteInputTokens": said.cache_write,
    }


def _stream(call: Call, said: Answer) -> Iterator[bytes | Pause]:
    def delta(index: int, what: dict[str, Any]) -> bytes:
        return event_message("contentBlockDelta", {"contentBlockIndex": index, "delta": what})

    yield event_message("messageStart", {"role": "assistant"})
    index = 0
    if said.reasoning:
        yield delta(0, {"reasoningContent": {"text": ""}})
        yield FIRST
        yield delta(0, {"reasoningContent": {"text": said.reasoning}})
        yield delta(0, {"reasoningContent": {"signature": "c2ln"}})
        yield event_message("contentBlockStop", {"contentBlockIndex": 0})
        index = 1
    elif not said.tool:
        yield delta(0, {"text": ""})
        yield FIRST
    else:
        yield FIRST
    if said.tool:
        start = {"toolUse": {"toolUseId": "tooluse_1", "name": said.tool}}
        yield event_message("contentBlockStart", {"contentBlockIndex": index, "start": start})
        yield THEN
        yield delta(index, {"toolUse": {"input": '{"city": "Bern"}'}})
    else:
        for number, word in enumerate(said.words):
            yield delta(index, {"text": word})
            if not number:
                yield CUT if said.cut else THEN
    yield event_message("contentBlockStop", {"contentBlockIndex": index})
    yield event_message("messageStop", {"stopReason": call.finish})
    yield event_message("metadata", {"usage": _usage(said), "metrics": {"latencyMs": 10}})
