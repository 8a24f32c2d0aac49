"""Names that an application keeps in an enum: the figures have the values that are sent."""

import asyncio
import json
from enum import Enum, StrEnum

import pytest
from fastapi import FastAPI, HTTPException, Response, WebSocket
from fastapi.testclient import TestClient
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from otel_coach.core.request_context import stated_mode
from otel_coach.metrics.labels import label_value
from otel_coach.metrics.mode_label import labelled_mode, labels
from tests.support.agents import CALLS
from tests.support.scripted_model import Scripted
from tests.support.sockets import HAS_DENIALS


class Name(str, Enum):  # noqa: UP042 - as FastAPI's tutorial has it
    CHAT = "gpt-4o-mini"
    EMBEDDING = "text-embedding-3-small"
    PLANNER = "planner"
    STOPPED = "stop"
    USER = "user"


class StringName(StrEnum):
    CHAT = "gpt-4o-mini"
    PLANNER = "planner"


class OtherName(Enum):
    PLANNER = "planner"


class Code(int, Enum):
    UPSTREAM = 502
    DENIED = 401


def test_a_status_is_a_number(measured):
    app = FastAPI()

    @app.get("/failed")
    async def failed():
        raise HTTPException(Code.UPSTREAM)

    @app.get("/denied")
    async def denied():
        raise HTTPException(Code.DENIED)

    client = TestClient(app)
    assert [client.get(path).status_code for path in ("/failed", "/denied")] == [502, 401]
    page = measured.page()
    counts = page.samples("http_server_request_duration_seconds_count")
    assert {labels["status"] for labels, _ in counts} == {"502", "401"}
    assert {labels["status"] for labels, _ in page.samples("auth_failures_total")} == {"401"}
    errors = {span.attributes.get("error.type") for span in measured.spans}
    assert "502" in errors
    assert not [one for one in errors if one and "Code" in one]


@pytest.mark.skipif(not HAS_DENIALS, reason="this Starlette answers each handshake with 403")
def test_the_status_of_a_refused_handshake_is_a_number(measured):
    from starlette.testclient import WebSocketDenialResponse

    app = FastAPI()

    @app.websocket("/closed")
    async def closed(websocket: WebSocket):
        await websocket.send_denial_response(Response(status_code=Code.DENIED))

    with pytest.raises(WebSocketDenialResponse), TestClient(app).websocket_connect("/closed"):
        pass
    failures = measured.page().samples("auth_failures_total")
    assert {labels["status"] for labels, _ in failures} == {"401"}


@pytest.mark.parametrize("name", [Name.CHAT, StringName.CHAT])
@pytest.mark.parametrize("at_the_call", [True, False])
def test_a_model_of_langchain(measured, provider, name, at_the_call):
    made = "gpt-4o-mini" if at_the_call else name
    model = ChatOpenAI(model=made, api_key="k", base_url=provider.base_url, max_retries=0)
    model.invoke("hi", **({"model": name} if at_the_call else {}))
    (entry,) = provider.ledger
    assert entry.model == "gpt-4o-mini"
    page = measured.page()
    assert page.sum(CALLS, model="gpt-4o-mini") == page.sum(CALLS) == 1
    (span,) = measured.spans
    assert span.name == "chat gpt-4o-mini"
    assert span.attributes["gen_ai.request.model"] == "gpt-4o-mini"


def test_an_embedding_model_of_langchain(measured, provider):
    model = OpenAIEmbeddings(
        model=Name.EMBEDDING,
        api_key="k",
        base_url=provider.base_url,
        check_embedding_ctx_length=False,
    )
    asyncio.run(model.aembed_query("one"))
    page = measured.page()
    assert page.sum("agent_embedding_requests_total", model="text-embedding-3-small") == 1
    (span,) = measured.spans
    assert span.name == "embeddings text-embedding-3-small"


def test_a_tool(measured):
    def plan(city: str) -> str:
        """Plans."""
        return city

    StructuredTool.from_function(plan, name=Name.PLANNER).invoke({"city": "Rome"})
    page = measured.page()
    calls = "agent_tool_calls_total"
    assert page.sum(calls, tool_name="planner") == page.sum(calls) == 1
    assert [span.name for span in measured.spans] == ["execute_tool planner"]


def test_a_finish_reason(measured):
    answer = AIMessage("hi", response_metadata={"finish_reason": Name.STOPPED})
    Scripted(answer=answer).invoke("hi")
    (span,) = measured.spans
    (reason,) = span.attributes["gen_ai.response.finish_reasons"]
    assert (type(reason), str(reason)) == (str, "stop")


@pytest.mark.parametrize("mode", [Name.PLANNER, StringName.PLANNER, OtherName.PLANNER])
def test_a_mode(measured, mode):
    with labels(mode=mode):
        assert (type(labelled_mode()), labelled_mode()) == (str, "planner")
    RunnableLambda(Scripted().invoke).invoke("hi", {"metadata": {"mode": mode}})
    assert measured.page().sum(CALLS, mode="planner") == 1
    assert stated_mode(mode) == label_value(mode) == "planner"


def test_the_role_of_a_captured_message():
    from otel_coach.instrumentors.genai.content import ContentCapture
    from otel_coach.instrumentors.openai.calls import ChatCall

    body = {"messages": [{"role": Name.USER, "content": "hi"}]}
    prompt = ChatCall(None, body, "openai").prompt_messages()
    said = ContentCapture().of_call(prompt, None)
    messages = json.loads(json.dumps(said["gen_ai.input.messages"]))
    assert messages == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert ContentCapture().of_call([[HumanMessage("hi")]], None) == said
