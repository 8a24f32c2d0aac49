"""The measured service, which contains no telemetry of its own.

`BENCH_DOUBLES` is the address of the model provider's double. `BENCH_BUILT_IN` is an OTLP endpoint
for FastAPI's own telemetry, which is active if there are global providers.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from verification.bench.agent import an_agent
from verification.bench.doubles import CHUNKS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable
    from langgraph.graph.state import CompiledStateGraph

if endpoint := os.environ.get("BENCH_BUILT_IN"):
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider())

app = FastAPI()


@tool
def training_plan(weeks: int) -> str:
    """Return a plan for that number of weeks."""
    return f"{weeks} weeks"


def _agent(model: Runnable[LanguageModelInput, AIMessage]) -> CompiledStateGraph:
    async def answer(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    return graph.compile()


_over_http = ChatOpenAI(
    model="gpt-4o-mini",
    base_url=f"{os.environ.get('BENCH_DOUBLES', 'http://127.0.0.1:1')}/v1",
    api_key="bench",  # type: ignore[arg-type] - pydantic makes a SecretStr of it
    stream_usage=True,
    max_retries=0,
)
_in_process = FakeListChatModel(responses=["x" * CHUNKS])
_agents = {
    "/stream": _agent(_over_http.bind_tools([training_plan])),
    # The minimum cost of a graph: a model whose answer is ready, character by character.
    "/stream/in-process": _agent(_in_process),
}
_tools_agent = an_agent(FakeListChatModel(responses=["Run."]))


@app.get("/health")
async def health() -> str:
    """Answers immediately."""
    return "ok"


@app.get("/agent")
def agent() -> str:
    """Answers when an agent has called its model twice, and a tool."""
    return str(_tools_agent.invoke({"messages": [("user", "Plan my week.")]})["messages"][-1].id)


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """Sends each message back."""
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


def _streaming(agent: CompiledStateGraph) -> StreamingResponse:
    async def chunks() -> AsyncIterator[str]:
        asked = {"messages": [("user", "Plan my week.")]}
        async for message, _ in agent.astream(asked, stream_mode="messages"):
            yield str(message.content)

    return StreamingResponse(chunks())


@app.get("/stream")
async def stream() -> StreamingResponse:
    """Streams the answer of a model over HTTP, chunk by chunk."""
    return _streaming(_agents["/stream"])


@app.get("/stream/in-process")
async def stream_in_process() -> StreamingResponse:
    """Streams the answer of a model in this process, chunk by chunk."""
    return _streaming(_agents["/stream/in-process"])
