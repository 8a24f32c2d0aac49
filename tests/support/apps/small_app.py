"""A small application for tests that start it by its command line; it knows nothing of us."""

import asyncio
import logging
import os
import sys

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.language_models import FakeListChatModel

app = FastAPI()
model = FakeListChatModel(responses=["one two three"])


@app.get("/health")
async def health():
    return "ok"


@app.get("/ask/{name}")
async def ask(name: str):
    return (await model.ainvoke(name)).content


@app.get("/mode/{mode}")
async def of_mode(mode: str):
    return (await model.ainvoke("hi", {"metadata": {"mode": mode}})).content


@app.get("/stream")
async def stream(pause: float = 0.0):
    async def chunks():
        await model.ainvoke("hi")
        for number in range(20):
            yield f"chunk {number}\n"
            await asyncio.sleep(pause)

    return StreamingResponse(chunks())


@app.get("/tokens")
async def tokens():
    """A stream of a graph whose model takes two seconds, so that a client can leave it."""
    from langgraph.graph import START, MessagesState, StateGraph

    slow = FakeListChatModel(responses=["w" * 100], sleep=0.02)

    async def answer(state: MessagesState):
        return {"messages": [await slow.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    graph = builder.compile()

    async def chunks():
        async for chunk, _ in graph.astream({"messages": "hi"}, stream_mode="messages"):
            yield chunk.content

    return StreamingResponse(chunks())


@app.get("/refuse")
async def refuse():
    from fastapi import HTTPException

    raise HTTPException(401)


@app.get("/broken")
async def broken():
    raise RuntimeError("a secret in a message")


@app.get("/what-is-on-the-path")
async def what_is_on_the_path():
    from langchain_core.callbacks import AsyncCallbackManager

    return {
        "call": FastAPI.__call__.__module__,
        "modules": sorted(name for name in sys.modules if name.startswith("otel_coach.")),
        "start": AsyncCallbackManager.on_chat_model_start.__code__.co_filename,
        "meters": type(__import__("opentelemetry.metrics").metrics.get_meter_provider()).__module__,
    }


match os.environ.get("SMALL_APP"):
    case "says who answers":

        @app.middleware("http")
        async def say_who_answers(request, call_next):
            response = await call_next(request)
            response.headers["x-worker"] = str(os.getpid())
            return response

    case "drops its rights":
        import multiprocessing

        if multiprocessing.parent_process() is not None:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

    case "logs":

        @app.middleware("http")
        async def log_each_request(request, call_next):
            logging.getLogger("small").warning("a request")
            return await call_next(request)

    case "instruments itself":
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(app)
    case "own page":
        from prometheus_client import make_asgi_app

        app.mount("/metrics", make_asgi_app())
    case "calls instrument":
        import otel_coach

        otel_coach.instrument(app)
