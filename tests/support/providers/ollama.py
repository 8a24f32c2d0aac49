"""Ollama's API: https://github.com/ollama/ollama/blob/main/docs/api.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.providers.double import CUT, FIRST, THEN, Answer, Ask, Call, Pause, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

_JSON_LINES = "application/x-ndjson"


def chat(ask: Ask, call: Call) -> Reply:
    """Answers at `/api/chat`."""
    return _reply(ask, call, lambda text: {"message": {"role": "assistant", "content": text}})


def generate(ask: Ask, call: Call) -> Reply:
    """Answers at `/api/generate`."""
    return _reply(ask, call, lambda text: {"response": text})


def _reply(ask: Ask, call: Call, content: Any) -> Reply:
    said = call.bill(cached=False, reasoning=False, writes=False)
    call.finish = said.finish or "stop"
    return Reply(_lines(ask, call, said, content), _JSON_LINES)


def _lines(ask: Ask, call: Call, said: Answer, content: Any) -> Iterator[bytes | Pause]:
    head = {"model": ask.body["model"], "created_at": "2026-01-01T00:00:00.000000Z"}

    def line(**more: Any) -> bytes:
        return json.dumps({**head, **more}).encode() + b"\n"

    last = {
        "done_reason": call.finish,
        "done": True,
        "total_duration": 4935886791,
        "load_duration": 534986708,
        "prompt_eval_count": said.prompt,
        "prompt_eval_duration": 107345000,
        "eval_count": said.completion,
        "eval_duration": 4289432000,
    }
    yield line(**content(""), done=False)
    yield FIRST
    if said.reasoning and "message" in content(""):
        message = {"role": "assistant", "content": "", "thinking": said.reasoning}
        yield line(message=message, done=False)
        yield THEN
    if said.tool:
        function = {"name": said.tool, "arguments": {"city": "Bern"}}
        message = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
        yield line(message=message, done=False)
        yield THEN
    else:
        for number, word in enumerate(said.words):
            yield line(**content(word), done=False)
            if not number:
                yield CUT if said.cut else THEN
    yield line(**content(""), **last)
