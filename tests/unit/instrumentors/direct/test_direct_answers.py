"""Answers as some servers give them: odd, erroneous, or handed on by the application."""

import gc
import json
from contextlib import contextmanager

import openai
import pytest
from langchain_openai import ChatOpenAI

from otel_coach.instrumentors.genai.usage_blocks import usage_in
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.direct_calls import STREAMS, has, http_library, package_of
from tests.unit.instrumentors.direct.conftest import CALLS
from tests.unit.instrumentors.direct.test_direct_figures import TEXT, check

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@contextmanager
def answering(answer, **settings):
    """A client whose provider gives this answer."""
    module = http_library()

    def handle(_request):
        if isinstance(answer, bytes):
            kind = {"content-type": "text/event-stream"}
            return module.Response(200, headers=kind, content=answer)
        return module.Response(200, json=answer)

    http_client = module.Client(transport=module.MockTransport(handle))
    with (
        measuring(Settings(**settings)) as measured,
        openai.OpenAI(api_key="k", http_client=http_client) as client,
    ):
        yield measured, client


def of_call(call):
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    return {"id": "1", "choices": [choice], "model": "m", "usage": USAGE}


@pytest.mark.parametrize("name", STREAMS)
def test_a_response_that_is_handed_on_is_read_after_its_stream_is_freed(
    name, measured, clients, provider
):
    if not has(clients[package_of(name)], STREAMS[name]):
        pytest.skip("this version of the package has no such method")

    def handed_on():
        return STREAMS[name](clients[package_of(name)], TEXT, "anna").response.iter_lines()

    lines = handed_on()
    gc.collect()
    assert next(lines) is not None
    gc.collect()
    assert list(lines)
    check(measured, provider, name)


def test_a_response_that_nobody_reads_is_left(measured, clients):
    response = STREAMS["chat_stream"](clients["openai"], TEXT, "anna").response
    gc.collect()
    response.close()
    ((labels, count),) = measured.page().samples(CALLS)
    assert (labels["status"], count) == ("aborted", 1)


def test_embeddings_whose_response_is_parsed_are_counted_once(provider, clients):
    with measuring() as measured:
        embeddings = clients["openai"].embeddings.with_streaming_response
        with embeddings.create(model="text-embedding-3-small", input="one two") as response:
            assert response.parse().data
        tokens = measured.page().sum("agent_llm_tokens_total", mode="embedding")
        assert tokens == provider.ledger[0].prompt_tokens == 2


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_arguments_of_a_tool_call_may_be_an_object(arguments):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with answering(of_call(call), captures_on_spans=True) as (measured, client):
        client.chat.completions.create(**ASK)
        assert measured.page().sum("agent_llm_tokens_total") == 7
        assert measured.page().sum("otel_coach_errors_total") == 0
        (said,) = json.loads(measured.spans[0].attributes["gen_ai.output.messages"])
    assert said["parts"] == [{"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}]


def test_a_custom_tool_call_has_its_name_and_its_input():
    call = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "text"}}
    with answering(of_call(call), captures_on_spans=True) as (measured, client):
        client.chat.completions.create(**ASK)
        (said,) = json.loads(measured.spans[0].attributes["gen_ai.output.messages"])
    (part,) = said["parts"]
    assert (part["name"], part["arguments"]) == ("f", "text")


def test_an_answer_that_says_it_failed_is_an_error():
    with answering({"error": {"message": "overloaded", "code": 502}}) as (measured, client):
        client.chat.completions.create(**ASK)
        ((labels, _),) = measured.page().samples(CALLS)
        assert (labels["status"], labels["error_type"]) == ("error", "ResponseError")


def test_a_stream_of_completions_of_several_prompts_ends_with_the_last_of_them():
    def piece(index):
        choice = {"index": index, "text": "x", "finish_reason": "stop"}
        chunk = {"id": "1", "object": "text_completion", "model": "m", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    with answering(piece(0) + piece(1) + b"data: [DONE]\n\n") as (measured, client):
        stream = client.completions.create(model="m", prompt=["a", "b"], stream=True)
        next(iter(stream))
        stream.close()
        assert measured.page().sum(CALLS, status="aborted") == 1
        stream = client.completions.create(model="m", prompt=["a", "b"], stream=True)
        chunks = iter(stream)
        next(chunks)
        next(chunks)
        stream.close()
        assert measured.page().sum(CALLS, status="ok") == 1


def test_a_model_is_reported_once_whichever_library_calls_it(caplog):
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    message = {"role": "assistant", "content": "hi"}
    answer["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
    with answering(answer) as (measured, client):
        client.chat.completions.create(**ASK)
        model = ChatOpenAI(model="m", api_key="k", client=client.chat.completions)
        model.invoke("hi")
        assert measured.page().sum("agent_llm_unmeasured_total", error_type="no_usage") == 2
    assert caplog.text.count("(no_usage)") == 1


def test_an_empty_finish_reason_is_none():
    """Some servers send one in each chunk."""
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": ""}
    chunk = {"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    last = {**chunk, "choices": [{**choice, "finish_reason": "stop"}], "usage": USAGE}
    text = [f"data: {json.dumps(piece)}\n\n".encode() for piece in (chunk, chunk, last)]
    with answering(b"".join(text) + b"data: [DONE]\n\n") as (measured, client):
        stream = client.chat.completions.create(**ASK, stream=True)
        next(iter(stream))
        stream.close()
        assert measured.page().sum(CALLS, status="aborted") == 1
        list(client.chat.completions.create(**ASK, stream=True))
        assert measured.spans[-1].attributes["gen_ai.response.finish_reasons"] == ("stop",)


def of_responses(*items):
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    text = {"type": "output_text", "text": "hi", "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "content": [text]}
    return {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": "gpt-5",
        "output": [*items, message],
        "usage": {**usage, "input_tokens_details": {}, "output_tokens_details": {}},
    }


def test_of_a_search_only_the_search_is_paid():
    items = [
        {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": kind}}
        for kind in ("search", "open_page", "find_in_page")
    ]
    with answering(of_responses(*items)) as (measured, client):
        if not hasattr(client, "responses"):
            pytest.skip("an older package has no such API")
        client.responses.create(model="gpt-5", input="hi")
        page = measured.page()
    assert page.sum("agent_llm_cost_usd_total") == pytest.approx(
        (1000 * 1.25 + 100 * 10) / 1e6 + 10 / 1000
    )


def test_what_the_model_did_before_is_not_the_users():
    given = [
        {"role": "user", "content": "plan"},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "web_search_call", "id": "w", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "a.txt"},
    ]
    with answering(of_responses(), captures_on_spans=True) as (measured, client):
        if not hasattr(client, "responses"):
            pytest.skip("an older package has no such API")
        client.responses.create(model="gpt-5", input=given)
        said = json.loads(measured.spans[0].attributes["gen_ai.input.messages"])
    assert [(one["role"], [part["type"] for part in one["parts"]]) for one in said] == [
        ("user", ["text"]),
        ("assistant", ["reasoning"]),
        ("assistant", ["tool_call"]),
        ("tool", ["tool_call_response"]),
    ]


def test_claudes_thinking_is_counted(caplog):
    usage = {
        "input_tokens": 10,
        "output_tokens": 1000,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "output_tokens_details": {"thinking_tokens": 900},
    }
    assert usage_in(usage).reasoning == 900
    assert "not known" not in caplog.text
