"""A service into whose every place a secret may come; it knows nothing of us."""

import logging
import os
from contextlib import suppress

import httpx
import psycopg
import redis
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from opentelemetry import baggage, context, metrics, trace
from pydantic import BaseModel
from sqlalchemy import create_engine, text

# What otel-coach and OpenTelemetry log, at its most talkative; the application's own is its own.
for name in ("otel_coach", "opentelemetry"):
    logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger(name).addHandler(logging.FileHandler(os.environ["CANARY_LOG"]))

app = FastAPI()
tracer = trace.get_tracer("canary.app")
asked = metrics.get_meter("canary.app").create_counter("asked")
engine = create_engine("sqlite://")


class Order(BaseModel):
    """What a user wants."""

    message: str
    user_id: str
    thread_id: str
    literal: str = ""


@tool
def remember(text: str) -> str:
    """Write a text down."""
    if text.startswith("fail"):
        raise ValueError(text)
    return f"written down: {text} {os.environ['CANARY_RESULT']}"


def _agent():
    model = ChatOpenAI(model="gpt-3.5-turbo", streaming=True, max_retries=0)
    return create_react_agent(model, [remember])


def _config(order):
    return {
        "run_name": f"agent of {order.user_id}",
        "tags": [order.user_id],
        "metadata": {"user_id": order.user_id, "session_id": order.thread_id, "mode": "canary"},
        "configurable": {"thread_id": order.thread_id, "user_id": order.user_id},
    }


@app.post("/chat/{session}")
async def chat(order: Order, request: Request, session: str):
    asked.add(1, {"user_id": order.user_id, "prompt": order.message, "model": "gpt-3.5-turbo"})
    trace.get_current_span().add_event("asked")
    token = context.attach(baggage.set_baggage("user", order.user_id))
    try:
        said = [("system", os.environ["CANARY_SYSTEM"]), ("user", order.message)]
        answer = await _agent().ainvoke({"messages": said}, _config(order))
    finally:
        context.detach(token)
    return answer["messages"][-1].content


@app.post("/stream")
async def stream(order: Order):
    async def chunks():
        async for part in ChatOpenAI(model="gpt-3.5-turbo").astream(order.message, _config(order)):
            yield part.content

    return StreamingResponse(chunks())


@app.post("/raise")
async def raises(order: Order):
    with tracer.start_as_current_span("of the application") as span:
        span.add_link(span.get_span_context())
        raise ExceptionGroup(order.message, [ValueError(order.message)])


@app.post("/refuse")
async def refuse(order: Order):
    challenge = f'Bearer realm="{order.user_id}", error_description="{order.literal}"'
    raise HTTPException(401, order.message, {"WWW-Authenticate": challenge})


@app.post("/database")
def database(order: Order):
    """Literals, parameters, comments and errors, in four libraries."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute(f"SELECT '{order.literal}' /* {order.literal} */")
        connection.execute("SELECT %s", [order.literal])
        try:
            connection.execute(f"SELECT CAST('{order.literal}' AS int) FROM pg_class")
        except psycopg.Error:
            connection.rollback()
        try:
            connection.execute(f"'{order.literal}'")
        except psycopg.Error:
            connection.rollback()
    with engine.connect() as sqlite:
        sqlite.execute(text(f"SELECT '{order.literal}', :value"), {"value": order.literal})
    cache = redis.Redis(port=int(os.environ["CLOSED_PORT"]), password=order.literal)
    with suppress(redis.RedisError):
        cache.set(order.literal, order.literal)
    with suppress(httpx.HTTPError):
        url = f"http://me:{order.literal}@127.0.0.1:{os.environ['CLOSED_PORT']}/{order.literal}"
        httpx.get(url, params={"key": order.literal}, headers={"authorization": order.literal})
    return "asked"
