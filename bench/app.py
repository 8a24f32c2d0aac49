"""The service that is measured: nothing of it knows of telemetry.

`BENCH_BUILT_IN` names an OTLP endpoint for FastAPI's own telemetry, which global providers wake.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel
from langgraph.graph import START, MessagesState, StateGraph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHUNKS: Final = 50

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
_model = FakeListChatModel(responses=["x" * CHUNKS])  # it streams character by character


async def _answer(state: MessagesState) -> MessagesState:
    return {"messages": [await _model.ainvoke(state["messages"])]}


_graph = StateGraph(MessagesState)
_graph.add_node("answer", _answer)
_graph.add_edge(START, "answer")
_agent = _graph.compile()


@app.get("/health")
async def health() -> str:
    """Answer at once."""
    return "ok"


@app.get("/stream")
async def stream() -> StreamingResponse:
    """Stream what the agent's model says, chunk by chunk."""

    async def chunks() -> AsyncIterator[str]:
        asked = {"messages": [("user", "hi")]}
        async for message, _ in _agent.astream(asked, stream_mode="messages"):
            yield str(message.content)

    return StreamingResponse(chunks())
