"""Gemini's API: https://ai.google.dev/api/generate-content."""

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


def generate_content(ask: Ask, call: Call) -> Reply:
    """Answers at `:generateContent` and `:streamGenerateContent`."""
    call.model = ask.path.rpartition("/")[2].partition(":")[0]
    said = call.bill(writes=False)
    call.finish = said.finish or "STOP"
    if "stream" in ask.path:
        return Reply(_stream(call, said), SSE)
    parts = [_call(said)] if said.tool else [{"text": said.text}]
    if said.reasoning:
        parts.insert(0, {"text": said.reasoning, "thought": True})
    return whole(_response(call, parts, call.finish, _usage(said)))


def _call(said: Answer) -> Json:
    return {"functionCall": {"name": said.tool, "args": {"city": "Bern"}}}


def _usage(said: Answer) -> Json:
    usage = {
        "promptTokenCount": said.prompt,
        "candidatesTokenCount": said.completion - said.reasoned,
        "totalTokenCount": said.prompt + said.completion,
        "cachedContentTokenCount": said.cached,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": said.prompt}],
        "thoughtsTokenCount": said.reasoned,
    }
    return {key: count for key, count in usage.items() if count}


def _response(call: Call, parts: list[Json], finish: str | None, usage: Json) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
        candidate.update(call.answer.extra.get("candidate", {}))
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": call.model,
        "responseId": "resp-1",
    }


def _stream(call: Call, said: Answer) -> Iterator[bytes | Pause]:
    # Each chunk repeats what was counted so far.
    opening = {"promptTokenCount": said.prompt, "totalTokenCount": said.prompt}
    if said.cached:
        opening["cachedContentTokenCount"] = said.cached
    yield sse(_response(call, [{"text": ""}], None, opening))
    yield FIRST
    if said.reasoning:
        thought = {"text": said.reasoning, "thought": True}
        so_far = {**opening, "thoughtsTokenCount": said.reasoned}
        so_far["totalTokenCount"] = said.prompt + said.reasoned
        yield sse(_response(call, [thought], None, so_far))
        yield THEN
    if said.tool:
        yield sse(_response(call, [_call(said)], None, opening))
        yield THEN
        yield sse(_response(call, [{"text": ""}], call.finish, _usage(said)))
        return
    first, *rest = said.words
    so_far = {**opening, "candidatesTokenCount": 3, "totalTokenCount": said.prompt + 3}
    yield sse(_response(call, [{"text": first}], None, so_far))
    yield CUT if said.cut else THEN
    yield sse(_response(call, [{"text": "".join(rest)}], call.finish, _usage(said)))
