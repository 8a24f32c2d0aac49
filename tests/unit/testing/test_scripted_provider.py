"""The scripted provider, asked by the real openai package and by LangChain."""

import datetime as dt
import socket
from contextlib import ExitStack

import httpx
import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from otel_coach.settings import Settings
from otel_coach.testing import Failure, ScriptedProvider, ToolCall, measuring
from tests.support.versions import HAS_RESPONSES


def chat(provider, **options):
    return ChatOpenAI(
        model="gpt-4o-mini", base_url=provider.base_url, api_key="any", max_retries=0, **options
    )


@tool
def weather(city: str) -> str:
    """Tells the weather."""
    return f"rain in {city}"


def test_a_script_that_replaces_another_begins_at_its_start():
    with ScriptedProvider("a", "b") as provider:
        model = chat(provider)
        assert [model.invoke("hi").content for _ in range(2)] == ["a", "b"]
        provider.script.append("c")
        assert model.invoke("hi").content == "c"
        provider.script = ["x", "y"]
        assert [model.invoke("hi").content for _ in range(2)] == ["x", "y"]


def test_a_script_is_extended_in_place_and_an_empty_one_is_ok():
    with ScriptedProvider("a", "b") as provider:
        model = chat(provider)
        assert [model.invoke("hi").content for _ in range(2)] == ["a", "b"]
        provider.script += ["c"]
        assert model.invoke("hi").content == "c"
        provider.script = []
        assert model.invoke("hi").content == "ok"
        provider.script.clear()
        assert model.invoke("hi").content == "ok"


@pytest.mark.parametrize("body", [{}, {"model": "m", "messages": 7}, [], "x"])
def test_a_request_that_cannot_be_read_is_answered_with_what_is_wrong(body):
    with ScriptedProvider("a") as provider:
        answer = httpx.post(f"{provider.base_url}/chat/completions", json=body)
        assert answer.status_code == 400
        assert "cannot read the request" in answer.json()["error"]["message"]
        assert chat(provider).invoke("hi").content == "a"


@pytest.mark.parametrize("text", ["Run easy.\n", " a  b ", ""])
def test_a_stream_has_the_whole_text(text):
    with ScriptedProvider(text) as provider:
        assert "".join(chunk.content for chunk in chat(provider).stream("hi")) == text


def test_the_script_is_answered_in_order_and_its_last_answer_repeats():
    with ScriptedProvider("one two", Failure(429), "last") as provider:
        model = chat(provider)
        assert model.invoke("hi there").content == "one two"
        with pytest.raises(openai.RateLimitError, match="a failure of the script"):
            model.invoke("hi")
        assert [model.invoke("hi").content for _ in range(2)] == ["last", "last"]
    assert [call.status for call in provider.calls] == [200, 429, 200, 200]
    assert [call.prompt_tokens for call in provider.calls] == [2, 0, 1, 1]
    assert [call.completion_tokens for call in provider.calls] == [2, 0, 1, 1]
    assert provider.calls[0].messages == ({"content": "hi there", "role": "user"},)


@pytest.mark.parametrize("is_stream", [True, False])
def test_tools_are_called_with_their_arguments(is_stream):
    with ScriptedProvider(ToolCall("weather", {"city": "Berlin"}), "done") as provider:
        model = chat(provider).bind_tools([weather])
        if is_stream:
            whole = None
            for chunk in model.stream("hi"):
                whole = chunk if whole is None else whole + chunk
        else:
            whole = model.invoke("hi")
        (call,) = whole.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Berlin"})
    assert whole.response_metadata["finish_reason"] == "tool_calls"


def test_what_is_measured_equals_the_providers_calls_and_openais_prices():
    with ScriptedProvider("one two three") as provider:
        with measuring(Settings(gateways=provider.gateways)) as measured:
            model = chat(provider, stream_usage=True)
            model.invoke("four words are here")
            assert "".join(chunk.content for chunk in model.stream("hi")) == "one two three"
            OpenAIEmbeddings(
                base_url=provider.base_url, api_key="any", check_embedding_ctx_length=False
            ).embed_documents(["three words here"])  # of several, old versions send each by itself
        page = measured.page()
    calls = provider.calls
    assert [call.is_stream for call in calls] == [False, True, False]
    assert page.sum("agent_llm_requests_total", status="ok") == 2
    assert page.sum("agent_embedding_requests_total", status="ok") == 1
    tokens = sum(call.prompt_tokens + call.completion_tokens for call in calls)
    assert page.sum("agent_llm_tokens_total") == tokens == 4 + 3 + 1 + 3 + 3
    # 0.15 and 0.60 USD per million tokens.
    cost = page.sum("agent_llm_cost_usd_total", model="gpt-4o-mini")
    assert cost == pytest.approx((5 * 0.15 + 6 * 0.60) / 1e6)


def test_the_pace_is_kept_and_a_client_that_leaves_is_no_error(capfd):
    with ScriptedProvider("one two three four", pace=0.02) as provider:
        stream = chat(provider).stream("hi")
        next(stream)
        stream.close()
    assert capfd.readouterr().err == ""


def client_of(provider):
    return openai.OpenAI(base_url=provider.base_url, api_key="any", max_retries=0)


@pytest.mark.parametrize("is_stream", [True, False])
def test_the_responses_api_answers_the_openai_package(is_stream):
    asked = {"model": "gpt-4o-mini", "instructions": "be kind", "input": "hi there you"}
    with ScriptedProvider("one two three", Failure(429)) as provider:
        client = client_of(provider)
        if is_stream:
            *events, last = client.responses.create(**asked, stream=True)
            response = last.response
            deltas = [one.delta for one in events if one.type == "response.output_text.delta"]
            assert deltas == ["one", " two", " three"]
            numbers = [one.sequence_number for one in (*events, last)]
            assert numbers == [*range(len(numbers))]
        else:
            response = client.responses.create(**asked)
        with pytest.raises(openai.RateLimitError, match="a failure of the script"):
            client.responses.create(**asked, stream=is_stream)
    assert (response.status, response.output_text) == ("completed", "one two three")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (5, 3)
    assert response.usage.total_tokens == 8
    call, failed = provider.calls
    assert (call.is_stream, call.prompt_tokens, call.completion_tokens) == (is_stream, 5, 3)
    assert call.messages == (
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi there you"},
    )
    assert (failed.status, failed.prompt_tokens, failed.completion_tokens) == (429, 0, 0)


@pytest.mark.skipif(not HAS_RESPONSES, reason="this langchain-openai has chat completions only")
@pytest.mark.parametrize("is_stream", [True, False])
def test_langchain_calls_a_tool_through_the_responses_api(is_stream):
    with ScriptedProvider(ToolCall("weather", {"city": "Berlin"}), "take a coat") as provider:
        with measuring(Settings(gateways=provider.gateways)) as measured:
            model = chat(provider, use_responses_api=True).bind_tools([weather])

            def ask(messages):
                if not is_stream:
                    return model.invoke(messages)
                first, *rest = model.stream(messages)
                return sum(rest, first)

            question = HumanMessage("what now")
            asks = ask([question])
            (call,) = asks.tool_calls
            assert (call["name"], call["args"]) == ("weather", {"city": "Berlin"})
            told = weather.invoke(call)
            assert ask([question, asks, told]).text == "take a coat"
        page = measured.page()
    # {"city": "Berlin"} is two words; the second question has the tool's answer, "rain in Berlin".
    billed = [(one.prompt_tokens, one.completion_tokens) for one in provider.calls]
    assert billed == [(2, 2), (2 + 3, 3)]
    assert page.sum("agent_llm_tokens_total", mode="prompt") == 7
    assert page.sum("agent_llm_tokens_total", mode="completion") == 5
    assert page.sum("agent_llm_unmeasured_total") == 0
    cost = page.sum("agent_llm_cost_usd_total", model="gpt-4o-mini")
    assert cost == pytest.approx((7 * 0.15 + 5 * 0.60) / 1e6)


def test_an_unknown_path_says_what_is_known():
    known = "/v1/chat/completions, /v1/responses and /v1/embeddings only"
    with ScriptedProvider() as provider:
        client = client_of(provider)
        with pytest.raises(openai.NotFoundError, match=known):
            client.completions.create(model="gpt-4o-mini", prompt="hi")
        assert (
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            .choices[0]
            .message.content
            == "ok"
        )


def test_a_hundred_clients_may_connect_at_once():
    provider = ScriptedProvider("ok")  # not entered: nobody accepts a connection yet
    host, port = provider.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=2))
        stack.callback(provider._server.server_close)


@pytest.mark.parametrize("status", [529, 520, 404])
def test_a_failure_of_any_status_is_answered(status):
    with (
        ScriptedProvider(Failure(status)) as provider,
        pytest.raises(openai.APIStatusError, match="a failure of the script") as raised,
    ):
        client_of(provider).responses.create(model="gpt-4o-mini", input="hi")
    assert raised.value.status_code == status


def test_an_array_of_tokens_is_one_text():
    with ScriptedProvider() as provider:
        answer = client_of(provider).embeddings.create(model="any", input=[1, 2, 3])
    assert (len(answer.data), answer.usage.prompt_tokens) == (1, 3)


def test_arguments_that_cannot_be_sent_are_refused_when_they_are_given():
    with pytest.raises(TypeError, match=r"the arguments of ToolCall\('plan'\) cannot be sent"):
        ToolCall("plan", {"at": dt.date(2024, 1, 1)})
